/// A piece of asynchronous work that starts on a loop.
package protocol LoopWork {
  func run(on loop: isolated EventLoop) async
}

/// Tasks parked on a loop that run asynchronous work without a new task for each piece.
///
/// Work is queued while a read pass parses; `pump` then resumes one worker, which drains the queue for
/// as long as the work does not suspend. When it does, the next worker takes the rest, so no piece
/// waits for another. Starting work this way costs a fifth of a task of its own.
///
/// A parked task lives as long as its pool, and keeps it alive: there is one pool of a kind of work for
/// each loop, which lives as long as the loop. More than `parkedMax` are not kept.
@safe
package final class WorkerPool<Work: LoopWork> {
  /// Tasks that wait for work; what was needed once, by a burst, is not held for ever.
  package static var parkedMax: Int { 256 }

  private var queue: [Work] = []
  private var head = 0
  private var idle: [UnsafeContinuation<Void, Never>] = unsafe []
  /// Workers that have been told to run and have not come to it yet.
  private var coming = 0

  init() {}

  /// The tasks that wait for work.
  var parkedCount: Int { unsafe idle.count }

  /// The pool of `loop` for this kind of work.
  package static func of(_ loop: isolated EventLoop) -> WorkerPool {
    loop.core.local(WorkerPool.self) { WorkerPool() }
  }

  /// Queues `work`; it starts with the next `pump`.
  package func submit(_ work: Work) {
    queue.append(work)
  }

  /// Starts everything that is queued.
  package func pump(on loop: isolated EventLoop) {
    // Inside a job, a worker runs only with the outer run of the loop's jobs: then each piece gets a
    // worker, since any of them may suspend.
    while head + coming < queue.count {
      coming += 1
      if let worker = unsafe idle.popLast() { unsafe worker.resume() } else { spawn(on: loop) }
      loop.core.runJobs()
    }
    if head == queue.count { compact() }
  }

  private func next() -> Work? {
    guard head < queue.count else {
      compact()
      return nil
    }
    head += 1
    return queue[head - 1]
  }

  private func compact() {
    queue.removeFirst(head)
    head = 0
  }

  private func spawn(on loop: isolated EventLoop) {
    // With the preference every resume stays on the loop; without it, each costs a hop.
    Task.immediate(executorPreference: loop.executor.tasks) {
      while true {
        self.coming -= 1
        while let work = self.next() {
          await work.run(on: loop)
          // A cancelled task stays cancelled: it is of no use to the next piece.
          if Task.isCancelled { return }
        }
        if self.parkedCount >= Self.parkedMax { return }
        unsafe await withUnsafeContinuation { unsafe self.idle.append($0) }
      }
    }
  }
}

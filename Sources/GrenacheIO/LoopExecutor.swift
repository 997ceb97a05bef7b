internal import CGrenacheLinux
internal import Glibc
internal import Synchronization

/// The thread of one event loop as the serial executor of the loop's actor.
///
/// Jobs that arrive from the loop's own thread go to a plain queue; jobs from elsewhere go through
/// the mailbox, with at most one write to the eventfd for each time that the loop empties it.
package final class LoopExecutor: SerialExecutor {
  /// Where tasks that prefer this loop run their nonisolated code: an object of its own, because a
  /// job must be run with the bookkeeping of the executor that it was enqueued on, or its next hop
  /// is queued again.
  package let tasks: LoopTaskExecutor

  private let queue: JobQueue

  init() throws(SystemCallError) {
    queue = try JobQueue()
    tasks = LoopTaskExecutor(queue: queue)
  }

  package func enqueue(_ job: consuming ExecutorJob) {
    queue.put(QueuedJob(job: UnownedJob(job), isActorJob: true))
  }

  package func asUnownedSerialExecutor() -> UnownedSerialExecutor {
    unsafe UnownedSerialExecutor(ordinary: self)
  }

  package func checkIsolated() {
    precondition(queue.isCurrentThread, "not on the thread of this event loop")
  }

  package func isIsolatingCurrentContext() -> Bool? { queue.isCurrentThread }

  /// The descriptor that becomes readable when jobs wait in the mailbox.
  var wakeDescriptor: Int32 { queue.wakeDescriptor }

  /// Whether jobs wait that the loop's own thread enqueued.
  var hasJobs: Bool { queue.hasJobs }

  /// Makes the calling thread the loop's thread, once, before the loop runs.
  func becomeCurrentThread() { queue.becomeCurrentThread() }

  /// Takes over what the mailbox holds.
  func emptyMailbox() { queue.emptyMailbox() }

  /// Runs the jobs that are queued now; those that they enqueue wait for the next call.
  func runJobs() {
    unsafe queue.run(
      actor: asUnownedSerialExecutor(), tasks: tasks.asUnownedTaskExecutor())
  }
}

/// The thread of one event loop as a task executor.
package final class LoopTaskExecutor: TaskExecutor {
  private let queue: JobQueue

  fileprivate init(queue: JobQueue) {
    self.queue = queue
  }

  package func enqueue(_ job: consuming ExecutorJob) {
    queue.put(QueuedJob(job: UnownedJob(job), isActorJob: false))
  }
}

private struct QueuedJob: Sendable {
  let job: UnownedJob
  let isActorJob: Bool
}

/// The jobs of one loop's thread.
private final class JobQueue: Sendable {
  let wakeDescriptor: Int32
  private let mailbox = Mutex<[QueuedJob]>([])
  private let isWoken = Atomic<Bool>(false)
  // Touched by the loop's thread alone: every access below stands behind `isCurrentThread`.
  private nonisolated(unsafe) var local: [QueuedJob] = []
  private nonisolated(unsafe) var running: [QueuedJob] = []
  private nonisolated(unsafe) var isRunning = false

  init() throws(SystemCallError) {
    wakeDescriptor = grenache_eventfd()
    guard wakeDescriptor >= 0 else { throw .last("eventfd") }
    unsafe local.reserveCapacity(1024)
    unsafe running.reserveCapacity(1024)
  }

  deinit { _ = close(wakeDescriptor) }

  var isCurrentThread: Bool {
    unsafe grenache_current_loop() == Unmanaged.passUnretained(self).toOpaque()
  }

  func becomeCurrentThread() {
    unsafe grenache_set_current_loop(Unmanaged.passUnretained(self).toOpaque())
  }

  var hasJobs: Bool { unsafe !local.isEmpty }

  func put(_ job: QueuedJob) {
    if isCurrentThread {
      unsafe local.append(job)
      return
    }
    mailbox.withLock { $0.append(job) }
    if !isWoken.exchange(true, ordering: .acquiringAndReleasing) {
      var one: UInt64 = 1
      _ = unsafe write(wakeDescriptor, &one, 8)
    }
  }

  func emptyMailbox() {
    var count: UInt64 = 0
    _ = unsafe read(wakeDescriptor, &count, 8)
    isWoken.store(false, ordering: .sequentiallyConsistent)
    mailbox.withLock { jobs in
      unsafe local.append(contentsOf: jobs)
      jobs.removeAll(keepingCapacity: true)
    }
  }

  func run(actor: UnownedSerialExecutor, tasks: UnownedTaskExecutor) {
    // A job may ask for the queue to be run (a worker pool does); the outer run goes on with it.
    guard unsafe !local.isEmpty, unsafe !isRunning else { return }
    unsafe isRunning = true
    unsafe swap(&local, &running)
    for entry in unsafe running {
      if entry.isActorJob {
        unsafe entry.job.runSynchronously(isolatedTo: actor, taskExecutor: tasks)
      } else {
        unsafe entry.job.runSynchronously(on: tasks)
      }
    }
    unsafe running.removeAll(keepingCapacity: true)
    unsafe isRunning = false
  }
}

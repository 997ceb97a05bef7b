internal import CGrenacheLinux
internal import Glibc

/// One thread that waits for sockets and timers and runs everything that belongs to them.
///
/// The loop is an actor whose serial executor is its thread: a method that takes
/// `loop: isolated EventLoop` is proven by the compiler to run there, so the sockets, connections and
/// tables of a loop are plain classes without locks. Other threads enter by calling the actor.
///
/// A loop and its thread live until the process ends: tasks may hold its executor at any time.
public actor EventLoop {
  package nonisolated let executor: LoopExecutor

  /// The loop's thread.
  public nonisolated var unownedExecutor: UnownedSerialExecutor {
    unsafe executor.asUnownedSerialExecutor()
  }

  /// What the loop consists of; for code on the loop.
  package let core: LoopCore

  /// Starts a loop on a thread of its own.
  package init(name: String) throws(SystemCallError) {
    let executor = try LoopExecutor()
    self.executor = executor
    core = try LoopCore(executor: executor)
    try startThread(named: name)
  }

  /// Runs `body` on the loop.
  package func run<Result: Sendable, Failure: Error>(
    _ body: @Sendable (isolated EventLoop) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try body(self)
  }

  private nonisolated func startThread(named name: String) throws(SystemCallError) {
    let start = ThreadStart(loop: self, name: name)
    var thread = pthread_t()
    let argument = unsafe Unmanaged.passRetained(start).toOpaque()
    let code = unsafe pthread_create(
      &thread, nil,
      { argument in
        guard let argument = unsafe argument else { return nil }
        let start = unsafe Unmanaged<ThreadStart>.fromOpaque(argument).takeRetainedValue()
        unsafe start.name.withCString { unsafe grenache_name_thread($0) }
        start.loop.executor.becomeCurrentThread()
        start.loop.assumeIsolated { loop in loop.core.run(loop) }
      }, argument)
    guard code == 0 else {
      unsafe Unmanaged<ThreadStart>.fromOpaque(argument).release()
      throw SystemCallError(call: "pthread_create", errno: code)
    }
    pthread_detach(thread)
  }
}

private final class ThreadStart: Sendable {
  let loop: EventLoop
  let name: String

  init(loop: EventLoop, name: String) {
    self.loop = loop
    self.name = name
  }
}

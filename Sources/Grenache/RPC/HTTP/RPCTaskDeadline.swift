internal import GrenacheIO

/// Cancels the task that made it when its deadline passes; ends before the task does.
@safe
final class RPCTaskDeadline: LoopTimerTarget {
  private let task: UnsafeCurrentTask?
  private lazy var timer = TargetTimer(self)
  private(set) var hasPassed = false

  init(_ deadline: MonotonicTime, on loop: isolated EventLoop) {
    unsafe task = withUnsafeCurrentTask { unsafe $0 }
    loop.core.arm(timer, at: deadline)
  }

  func end(on loop: isolated EventLoop) {
    loop.core.cancel(timer)
  }

  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    hasPassed = true
    unsafe task?.cancel()
  }
}

internal import Glibc

extension StreamSocket {
  /// Connects to `address` within `deadline` of now.
  ///
  /// - Throws: `SystemCallError`: what `connect` failed with; `ETIMEDOUT` when the deadline passes,
  ///   `ECANCELED` when the task is cancelled.
  package static func connect(
    to address: SocketAddress, within deadline: Duration, on loop: isolated EventLoop
  ) async throws(SystemCallError) -> StreamSocket {
    let connector = try Connector(to: address)
    let canceller = LoopBound(connector, on: loop)
    let failure = await withTaskCancellationHandler {
      await connector.finish(within: deadline, on: loop)
    } onCancel: {
      Task {
        await canceller.loop.run { loop in
          canceller.get(on: loop).end(
            SystemCallError(call: "connect", errno: ECANCELED), on: loop)
        }
      }
    }
    if let failure {
      connector.closeDescriptor(on: loop)
      throw failure
    }
    return StreamSocket(
      descriptor: connector.surrenderDescriptor(on: loop), remoteAddress: address)
  }
}

/// A connection that is being made.
private final class Connector: EventSource, LoopTimerTarget {
  private enum State {
    case connecting
    case waiting(CheckedContinuation<SystemCallError?, Never>, TargetTimer)
    case over(SystemCallError?)
  }
  private var state = State.connecting

  init(to address: SocketAddress) throws(SystemCallError) {
    let kind = SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue
    let descriptor = socket(address.family, Int32(kind), 0)
    super.init(descriptor: descriptor)
    guard descriptor >= 0 else { throw .last("socket") }
    let result = unsafe address.withSystemAddress { unsafe Glibc.connect(descriptor, $0, $1) }
    if result == 0 {
      state = .over(nil)
    } else if errno != EINPROGRESS {
      throw .last("connect")
    }
  }

  /// Waits until the connection is made: `nil`, or what it failed with.
  func finish(within deadline: Duration, on loop: isolated EventLoop) async -> SystemCallError? {
    if case .over(let failure) = state { return failure }
    do { try watch(.writable, on: loop) } catch { return error }
    return await withCheckedContinuation { continuation in
      let timer = TargetTimer(self)
      loop.core.arm(timer, after: deadline)
      state = .waiting(continuation, timer)
    }
  }

  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    end(SystemCallError(call: "connect", errno: ETIMEDOUT), on: loop)
  }

  override func ready(_ events: ReadyEvents, on loop: isolated EventLoop) {
    var code: Int32 = 0
    var size = socklen_t(4)
    _ = unsafe getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &size)
    end(code == 0 ? nil : SystemCallError(call: "connect", errno: code), on: loop)
  }

  func end(_ failure: SystemCallError?, on loop: isolated EventLoop) {
    switch state {
    case .connecting:
      state = .over(failure)
    case .waiting(let continuation, let timer):
      loop.core.cancel(timer)
      state = .over(failure)
      continuation.resume(returning: failure)
    case .over:
      break
    }
  }
}

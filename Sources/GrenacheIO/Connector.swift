internal import Glibc

extension StreamSocket {
  /// Connects to `address` by `deadline`.
  ///
  /// - Parameter receiveBufferBytes: what the kernel may hold of what has come (`SO_RCVBUF`), as it is told
  ///   before it says to the peer how much that may send; the system's choice for `nil`.
  /// - Throws: `SystemCallError`: what `connect` failed with; `ETIMEDOUT` when the deadline passes,
  ///   `ECANCELED` when the task is cancelled.
  package static func connect(
    to address: SocketAddress, receiveBufferBytes: Int? = nil, by deadline: MonotonicTime,
    on loop: isolated EventLoop
  ) async throws(SystemCallError) -> StreamSocket {
    let connector = try Connector(to: address, receiveBufferBytes: receiveBufferBytes)
    do throws(SystemCallError) {
      try await connector.finish(by: deadline, on: loop)
    } catch {
      connector.closeDescriptor(on: loop)
      throw error
    }
    return StreamSocket(
      descriptor: connector.surrenderDescriptor(on: loop), remoteAddress: address)
  }
}

/// A connection that is being made.
private final class Connector: EventSource {
  /// The errno with which the attempt ends; 0 for a connection.
  private let result = LoopPromise<Int32>()
  private var isConnected = false

  init(to address: SocketAddress, receiveBufferBytes: Int?) throws(SystemCallError) {
    let kind = SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue
    let descriptor = socket(address.family, Int32(kind), 0)
    super.init(descriptor: descriptor)
    guard descriptor >= 0 else { throw .last("socket") }
    if let receiveBufferBytes {
      setOption(SOL_SOCKET, SO_RCVBUF, Int32(clamping: receiveBufferBytes))
    }
    let outcome = unsafe address.withSystemAddress { unsafe Glibc.connect(descriptor, $0, $1) }
    if outcome == 0 {
      isConnected = true
    } else if errno != EINPROGRESS {
      throw .last("connect")
    }
  }

  func finish(by deadline: MonotonicTime, on loop: isolated EventLoop) async throws(SystemCallError)
  {
    if isConnected { return }
    try watch(.writable, on: loop)
    switch await result.wait(until: deadline, on: loop) {
    case .value(0): return
    case .value(let code): throw SystemCallError(call: "connect", errno: code)
    case .timedOut: throw SystemCallError(call: "connect", errno: ETIMEDOUT)
    case .cancelled: throw SystemCallError(call: "connect", errno: ECANCELED)
    }
  }

  override func ready(_ events: ReadyEvents, on loop: isolated EventLoop) {
    var code: Int32 = 0
    var size = socklen_t(4)
    _ = unsafe getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &size)
    try? watch([], on: loop)
    result.fulfil(code, on: loop)
  }
}

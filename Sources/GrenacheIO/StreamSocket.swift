internal import CGrenacheLinux
internal import Glibc

/// What happens to a stream socket, told to the one who uses it. All calls are on the loop.
package protocol StreamSocketDelegate: AnyObject {
  /// Bytes, the end of the stream or an error can be received.
  func socketReadable(on loop: isolated EventLoop)
  /// The backlog has been sent.
  func socketDrained(on loop: isolated EventLoop)
  /// The end of a turn in which `markDirty` was called for the socket, or in which its place in the
  /// line has come after `waitInLine`.
  func socketTurnEnded(on loop: isolated EventLoop)
  /// The socket failed while it was not being read.
  func socketFailed(_ error: SystemCallError, on loop: isolated EventLoop)
}

/// A connected TCP socket, non-blocking, confined to a loop.
///
/// Bytes that the kernel does not take are kept as a backlog and sent as it takes them. The backlog
/// has no limit of its own: its user looks at `backlogBytes` and stops producing.
package final class StreamSocket: EventSource {
  /// Held until the socket is closed, so that whoever uses a socket lives as long as it is open.
  package var delegate: (any StreamSocketDelegate)?
  /// The address at the other end, as it was when the connection was made.
  package let remoteAddress: SocketAddress

  /// A peer that has vanished without a word (power, network) is noticed after about this time.
  static let vanishedSeconds: Int32 = 30

  private var backlog = SendBacklog()
  private var wantsRead = false
  /// What receiving fails with once what has come was received.
  private var postponed: SystemCallError?

  /// Takes over a connected descriptor.
  package init(descriptor: Int32, remoteAddress: SocketAddress) {
    self.remoteAddress = remoteAddress
    super.init(descriptor: descriptor)
    setOption(SOL_SOCKET, SO_KEEPALIVE, 1)
    for (name, value) in [
      (TCP_NODELAY, 1), (TCP_KEEPIDLE, Self.vanishedSeconds / 2), (TCP_KEEPINTVL, 5),
      (TCP_KEEPCNT, Self.vanishedSeconds / 10),
      (TCP_USER_TIMEOUT, Self.vanishedSeconds * 1_000),
    ] {
      setOption(Int32(IPPROTO_TCP), name, value)
    }
  }

  /// The address at this end.
  package var localAddress: SocketAddress? {
    unsafe .filled { unsafe getsockname(descriptor, $0, $1) }
  }

  /// The bytes that wait for the kernel.
  package var backlogBytes: Int { backlog.count }

  /// Has the kernel hold no more than about so many bytes that the peer has not confirmed (`SO_SNDBUF`),
  /// and as much again for its own accounts.
  package func limitSendBuffer(to bytes: Int) {
    setOption(SOL_SOCKET, SO_SNDBUF, Int32(clamping: bytes))
  }

  /// Starts or stops reading: with reading stopped, the peer meets the kernel's flow control.
  package func setReading(
    _ reading: Bool, on loop: isolated EventLoop
  ) throws(SystemCallError) {
    wantsRead = reading
    try updateInterest(on: loop)
  }

  /// Keeps a failure for whoever reads on: until then the socket, which would report it again and again, is
  /// not watched.
  package func postpone(_ error: SystemCallError, on loop: isolated EventLoop) {
    postponed = error
    unwatch(on: loop)
  }

  /// Whether the peer has ended the stream, or the connection has failed, though bytes of it may still
  /// wait to be received.
  package var hasPeerEnded: Bool {
    let ended = Int16(truncatingIfNeeded: EPOLLRDHUP.rawValue)  // poll(2) uses the same bits
    var query = pollfd(fd: descriptor, events: ended, revents: 0)
    guard unsafe poll(&query, 1, 0) == 1 else { return false }
    return query.revents != 0
  }

  package enum Received: Hashable {
    case bytes(Int)
    case wouldBlock
    case endOfStream
  }

  /// Receives what is there, once.
  package func receive(
    into buffer: UnsafeMutableRawBufferPointer
  ) throws(SystemCallError) -> Received {
    try unsafe receive(into: buffer, flags: 0)
  }

  /// Looks at what is there and leaves it there.
  package func peek(
    into buffer: UnsafeMutableRawBufferPointer
  ) throws(SystemCallError) -> Received {
    try unsafe receive(into: buffer, flags: Int32(MSG_PEEK))
  }

  /// Has the socket count as readable with so many bytes waiting, or at the end of the stream; 1 at
  /// first. The kernel may settle for fewer than it was asked for.
  package func setReadableBytes(_ count: Int) {
    setOption(SOL_SOCKET, SO_RCVLOWAT, Int32(clamping: count))
  }

  private func receive(
    into buffer: UnsafeMutableRawBufferPointer, flags: Int32
  ) throws(SystemCallError) -> Received {
    let count = unsafe recv(descriptor, buffer.baseAddress, buffer.count, flags)
    if count > 0 { return .bytes(count) }
    if count == 0 {
      if let postponed { throw postponed }
      return .endOfStream
    }
    switch errno {
    case EAGAIN, EINTR: return .wouldBlock
    default: throw .last("recv")
    }
  }

  /// Sends `bytes`, behind what waits already.
  package func send(
    _ bytes: UnsafeRawBufferPointer, on loop: isolated EventLoop
  ) throws(SystemCallError) {
    var sent = 0
    if backlog.isEmpty { sent = try unsafe sendNow(bytes) }
    guard sent < bytes.count else { return }
    unsafe backlog.append(UnsafeRawBufferPointer(rebasing: bytes[sent...]))
    try updateInterest(on: loop)
  }

  /// Tells the peer that no more bytes follow; only with an empty backlog.
  package func shutDownWriting() {
    _ = shutdown(descriptor, Int32(SHUT_WR))
  }

  /// Closes the socket so that the peer sees that the connection was broken off, not ended.
  package func reset(on loop: isolated EventLoop) {
    var option = linger(l_onoff: 1, l_linger: 0)
    _ = unsafe setsockopt(
      descriptor, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
    close(on: loop)
  }

  /// Closes the socket, drops the backlog and lets go of the delegate.
  package func close(on loop: isolated EventLoop) {
    closeDescriptor(on: loop)
    backlog = SendBacklog()
    delegate = nil
  }

  package override func ready(_ events: ReadyEvents, on loop: isolated EventLoop) {
    if events.contains(.writable), !backlog.isEmpty {
      do { try drain(on: loop) } catch { return fail(error, on: loop) }
    }
    guard !isClosed else { return }
    if wantsRead, !events.isDisjoint(with: [.readable, .failed]) {
      delegate?.socketReadable(on: loop)
    } else if !events.isDisjoint(with: .failed) {
      fail(pendingError(), on: loop)
    }
  }

  package override func turnEnded(on loop: isolated EventLoop) {
    delegate?.socketTurnEnded(on: loop)
  }

  private func drain(on loop: isolated EventLoop) throws(SystemCallError) {
    while let chunk = backlog.first {
      let sent = try sendNow(chunk, from: backlog.firstOffset)
      guard backlog.consume(sent) else { return }
    }
    try updateInterest(on: loop)
    delegate?.socketDrained(on: loop)
  }

  private func sendNow(_ chunk: [UInt8], from offset: Int) throws(SystemCallError) -> Int {
    let count = unsafe chunk.withUnsafeBytes { bytes in
      let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[offset...])
      return unsafe Glibc.send(descriptor, rest.baseAddress, rest.count, Int32(MSG_NOSIGNAL))
    }
    return try Self.sentCount(count)
  }

  private func sendNow(_ bytes: UnsafeRawBufferPointer) throws(SystemCallError) -> Int {
    try Self.sentCount(
      unsafe Glibc.send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL)))
  }

  private static func sentCount(_ result: Int) throws(SystemCallError) -> Int {
    if result >= 0 { return result }
    switch errno {
    case EAGAIN, EINTR: return 0
    default: throw .last("send")
    }
  }

  private func updateInterest(on loop: isolated EventLoop) throws(SystemCallError) {
    if postponed != nil, !wantsRead { return unwatch(on: loop) }
    var interest: EventInterest = wantsRead ? .readable : []
    if !backlog.isEmpty { interest.insert(.writable) }
    try watch(interest, on: loop)
  }

  private func pendingError() -> SystemCallError {
    var code: Int32 = 0
    var size = socklen_t(4)
    _ = unsafe getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &size)
    return SystemCallError(call: "poll", errno: code == 0 ? ECONNRESET : code)
  }

  private func fail(_ error: SystemCallError, on loop: isolated EventLoop) {
    if let delegate { delegate.socketFailed(error, on: loop) } else { close(on: loop) }
  }
}

/// Bytes that wait for the kernel, in the chunks in which they came.
private struct SendBacklog {
  private var chunks: [[UInt8]] = []
  private var head = 0
  private(set) var firstOffset = 0
  private(set) var count = 0

  var isEmpty: Bool { count == 0 }
  var first: [UInt8]? { head < chunks.count ? chunks[head] : nil }

  mutating func append(_ bytes: UnsafeRawBufferPointer) {
    unsafe chunks.append(Array(bytes))
    count += bytes.count
  }

  /// Drops `sent` bytes of the first chunk; returns whether the chunk is gone.
  mutating func consume(_ sent: Int) -> Bool {
    count -= sent
    firstOffset += sent
    guard firstOffset >= chunks[head].count else { return false }
    chunks[head] = []
    head += 1
    firstOffset = 0
    if head == chunks.count {
      chunks = []
      head = 0
    } else if head >= 64, head * 2 > chunks.count {
      chunks.removeFirst(head)
      head = 0
    }
    return true
  }
}

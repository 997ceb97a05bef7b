internal import CGrenacheLinux
internal import Glibc

/// Who takes the connections that a socket accepts.
package protocol ListenSocketDelegate: AnyObject {
  /// A connection has come; its descriptor now belongs to the delegate.
  func accepted(_ descriptor: Int32, from remote: SocketAddress, on loop: isolated EventLoop)
}

/// A listening TCP socket, confined to a loop.
package final class ListenSocket: EventSource, LoopTimerTarget {
  /// The connections that the kernel may hold before they are accepted.
  package static let backlogMax: Int32 = 1024
  /// Connections accepted in one turn of the loop: each costs the established ones a part of a
  /// millisecond, so that hundreds at once must not come between.
  static let acceptsPerTurn = 4
  /// How long accepting rests when the process is out of descriptors or memory.
  static let exhaustionPause = Duration.milliseconds(50)

  /// Held until the socket stops.
  private var delegate: (any ListenSocketDelegate)?
  private lazy var resume = TargetTimer(self)

  /// Binds to `wanted` and listens; port 0 lets the kernel choose. All addresses of both families (`::`) are
  /// those of IPv4 where the system has no IPv6.
  package init(_ wanted: SocketAddress) throws(SystemCallError) {
    let (descriptor, address) = Self.open(wanted)
    super.init(descriptor: descriptor)
    guard descriptor >= 0 else { throw .last("socket") }
    var one: Int32 = 1
    var zero: Int32 = 0
    _ = unsafe setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, 4)
    if address.family == AF_INET6 {
      _ = unsafe setsockopt(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &zero, 4)
    }
    guard unsafe address.withSystemAddress({ unsafe bind(descriptor, $0, $1) }) == 0 else {
      throw .last("bind \(address)")
    }
    guard listen(descriptor, Self.backlogMax) == 0 else { throw .last("listen") }
  }

  private static func open(_ address: SocketAddress) -> (descriptor: Int32, SocketAddress) {
    let kind = SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue
    let descriptor = socket(address.family, Int32(kind), 0)
    guard descriptor < 0, let substitute = substitute(for: address, after: errno) else {
      return (descriptor, address)
    }
    return open(substitute)
  }

  /// What is listened on where no socket of an address's family can be made: an address that was named
  /// has no substitute.
  static func substitute(for address: SocketAddress, after code: Int32) -> SocketAddress? {
    guard code == EAFNOSUPPORT, address.host == .ipv6(high: 0, low: 0, scope: 0) else { return nil }
    return SocketAddress(host: .ipv4(0, 0, 0, 0), port: address.port)
  }

  /// The address, with the port that the kernel chose.
  package var localAddress: SocketAddress? {
    unsafe .filled { unsafe getsockname(descriptor, $0, $1) }
  }

  /// Makes the process's table of descriptors large enough for so many connections, or as many as its limit
  /// (`RLIMIT_NOFILE`) allows: 8 bytes each.
  ///
  /// The kernel doubles the table when it is full, and while threads share it waits until no processor can
  /// still look at the old one: some milliseconds in which a loop stands still, in the middle of a storm.
  package func reserveDescriptors(_ count: Int) {
    var limit = rlimit()
    guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
    let last = min(UInt64(clamping: count), UInt64(limit.rlim_cur), UInt64(Int32.max))
    guard last > 0 else { return }
    let copy = fcntl(descriptor, F_DUPFD_CLOEXEC, Int32(last - 1))
    if copy >= 0 { _ = Glibc.close(copy) }
  }

  /// Begins to accept.
  package func start(
    _ delegate: any ListenSocketDelegate, on loop: isolated EventLoop
  ) throws(SystemCallError) {
    self.delegate = delegate
    try watch(.readable, on: loop)
  }

  /// Closes the socket and lets go of the delegate.
  package func stop(on loop: isolated EventLoop) {
    loop.core.cancel(resume)
    closeDescriptor(on: loop)
    delegate = nil
  }

  package override func ready(_ events: ReadyEvents, on loop: isolated EventLoop) {
    for _ in 0..<Self.acceptsPerTurn where !isClosed {
      let connection = grenache_accept(descriptor)
      guard connection >= 0 else {
        pauseIfExhausted(.last("accept4"), on: loop)
        return
      }
      guard let remote = unsafe SocketAddress.filled(by: { unsafe getpeername(connection, $0, $1) })
      else {
        _ = Glibc.close(connection)  // the peer is gone already
        continue
      }
      delegate?.accepted(connection, from: remote.unmapped, on: loop)
    }
  }

  package func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    try? watch(.readable, on: loop)
  }

  /// Out of descriptors the socket stays readable: without a pause the loop would spin.
  private func pauseIfExhausted(_ error: SystemCallError, on loop: isolated EventLoop) {
    guard error.isShortage else { return }
    try? watch([], on: loop)
    loop.core.arm(resume, after: Self.exhaustionPause)
  }
}

internal import Glibc

/// Who takes the datagrams that a socket receives.
package protocol DatagramSocketDelegate: AnyObject {
  /// A datagram has come; its bytes are lent for the duration of the call.
  func received(_ datagram: Span<UInt8>, from source: SocketAddress, on loop: isolated EventLoop)
}

/// A bound UDP socket, confined to a loop.
@safe
package final class DatagramSocket: EventSource {
  /// The largest payload of a UDP datagram over IPv4 (RFC 768, RFC 791).
  package static let datagramBytesMax = 65_507
  /// How many datagrams one readiness event takes before other sources have their turn.
  static let datagramsPerTurn = 64

  /// Held until the socket stops.
  private var delegate: (any DatagramSocketDelegate)?
  private let buffer: UnsafeMutableRawBufferPointer
  /// Datagrams that the kernel did not take.
  package private(set) var unsentCount = 0

  /// Binds to `address`; port 0 lets the kernel choose.
  package init(_ address: SocketAddress) throws(SystemCallError) {
    unsafe buffer = .allocate(byteCount: 65_536, alignment: 64)
    let kind = SOCK_DGRAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue
    let descriptor = socket(address.family, Int32(kind), 0)
    super.init(descriptor: descriptor)
    guard descriptor >= 0 else { throw .last("socket") }
    var bytes: Int32 = 1 << 20
    _ = unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &bytes, 4)
    if address.family == AF_INET6 {
      // IPv4 has a socket of its own, perhaps on the same port.
      var isOnly: Int32 = 1
      _ = unsafe setsockopt(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &isOnly, 4)
    }
    guard unsafe address.withSystemAddress({ unsafe bind(descriptor, $0, $1) }) == 0 else {
      throw .last("bind \(address)")
    }
  }

  deinit { unsafe buffer.deallocate() }

  /// The address, with the port that the kernel chose.
  package var localAddress: SocketAddress? {
    unsafe .filled { unsafe getsockname(descriptor, $0, $1) }
  }

  /// Begins to receive.
  package func start(
    _ delegate: any DatagramSocketDelegate, on loop: isolated EventLoop
  ) throws(SystemCallError) {
    self.delegate = delegate
    try watch(.readable, on: loop)
  }

  /// Closes the socket and lets go of the delegate.
  package func stop(on loop: isolated EventLoop) {
    closeDescriptor(on: loop)
    delegate = nil
  }

  /// Sends one datagram; like the network, the kernel may drop it.
  package func send(_ bytes: Span<UInt8>, to address: SocketAddress) {
    guard !isClosed else { return }
    let count = unsafe bytes.withUnsafeBufferPointer { bytes in
      unsafe address.withSystemAddress { target, size in
        unsafe sendto(
          descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL), target, size)
      }
    }
    if count < 0 { unsentCount &+= 1 }
  }

  package override func ready(_ events: ReadyEvents, on loop: isolated EventLoop) {
    for _ in 0..<Self.datagramsPerTurn {
      guard !isClosed else { return }
      var count = 0
      let source = unsafe SocketAddress.filled { address, size in
        count = unsafe recvfrom(descriptor, buffer.baseAddress, buffer.count, 0, address, size)
        return count < 0 ? -1 : 0
      }
      if count < 0 {
        // An ICMP error of an earlier send is reported once; anything else ends this turn.
        if errno == ECONNREFUSED { continue }
        return
      }
      guard let source else { continue }
      let datagram = unsafe UnsafeBufferPointer(
        rebasing: buffer.assumingMemoryBound(to: UInt8.self)[..<count])
      delegate?.received(unsafe datagram.span, from: source, on: loop)
    }
  }
}

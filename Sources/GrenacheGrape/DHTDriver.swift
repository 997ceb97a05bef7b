internal import GrenacheDHT
internal import GrenacheIO
internal import GrenacheTLS
internal import GrenacheTransport
internal import Logging

/// Gives a `DHTNode` what it lacks: a socket, the time and randomness. Confined to its loop.
final class DHTDriver: DatagramSocketDelegate, LoopTimerTarget {
  let localAddress: SocketAddress
  private var node: DHTNode
  private let socket: DatagramSocket
  private let started: MonotonicTime
  private var generator = SecureRandomNumberGenerator()
  private var lookups: [DHTLookupID: LoopPromise<DHTLookupResult>] = [:]
  private var announces: [DHTAnnounceID: LoopPromise<DHTAnnounceOutcome>] = [:]
  private lazy var timer = TargetTimer(self)

  init(
    _ configuration: DHTConfiguration, bindingTo address: SocketAddress
  ) throws(SystemCallError) {
    socket = try DatagramSocket(address)
    localAddress = socket.localAddress ?? address
    started = .now()
    var generator = SecureRandomNumberGenerator()
    node = DHTNode(
      id: .random(using: &generator), configuration: configuration, now: .zero,
      sha1: Digest.sha1, using: &generator)
  }

  var nodeID: NodeID { node.id }
  var contactCount: Int { node.contactCount }
  var statistics: DHTStatistics { node.statistics }

  func start(on loop: isolated EventLoop) throws(SystemCallError) {
    try socket.start(self, on: loop)
    node.timerFired(now: now, using: &generator)
    perform(on: loop)
  }

  func stop(on loop: isolated EventLoop) {
    loop.core.cancel(timer)
    socket.stop(on: loop)
  }

  /// Looks for the peers of `key`; `nil` when there is no answer by `deadline`.
  func lookUp(
    _ key: [UInt8], by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async -> DHTLookupResult? {
    let promise = LoopPromise<DHTLookupResult>()
    let id = node.lookUp(key, now: now)
    lookups[id] = promise
    perform(on: loop)
    let outcome = await promise.wait(until: deadline, on: loop)
    lookups[id] = nil
    guard case .value(let result) = outcome else { return nil }
    return result
  }

  /// Announces `key` at `port`; `nil` when there is no outcome by `deadline`.
  func announce(
    _ key: [UInt8], port: UInt16, ownAddress: DHTAddress?, by deadline: MonotonicTime,
    on loop: isolated EventLoop
  ) async -> DHTAnnounceOutcome? {
    let promise = LoopPromise<DHTAnnounceOutcome>()
    let id = node.announce(key, port: port, ownAddress: ownAddress, now: now)
    announces[id] = promise
    perform(on: loop)
    let outcome = await promise.wait(until: deadline, on: loop)
    announces[id] = nil
    guard case .value(let result) = outcome else { return nil }
    return result
  }

  func received(
    _ datagram: Span<UInt8>, from source: SocketAddress, on loop: isolated EventLoop
  ) {
    guard let source = DHTAddress(source) else { return }
    node.datagramReceived(datagram, from: source, now: now, using: &generator)
    perform(on: loop)
  }

  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    node.timerFired(now: now, using: &generator)
    perform(on: loop)
  }

  private var now: Duration { MonotonicTime.now() - started }

  private func perform(on loop: isolated EventLoop) {
    while let action = node.nextAction() {
      switch action {
      case .send(let datagram, let address):
        socket.send(datagram.span, to: SocketAddress(address))
      case .lookupFinished(let id, let result):
        lookups[id]?.fulfil(result, on: loop)
      case .announceFinished(let id, let outcome):
        announces[id]?.fulfil(outcome, on: loop)
      }
    }
    loop.core.arm(timer, at: started + node.nextDeadline)
  }
}

extension DHTAddress {
  /// `nil` for an IPv6 address, which this DHT does not speak.
  init?(_ address: SocketAddress) {
    guard case .ipv4(let a, let b, let c, let d) = address.unmapped.host else { return nil }
    let ip = UInt32(a) << 24 | UInt32(b) << 16 | UInt32(c) << 8 | UInt32(d)
    self.init(ip: ip, port: address.port)
  }
}

extension SocketAddress {
  init(_ address: DHTAddress) {
    let ip = address.ip
    self.init(
      host: .ipv4(
        UInt8(truncatingIfNeeded: ip >> 24), UInt8(truncatingIfNeeded: ip >> 16),
        UInt8(truncatingIfNeeded: ip >> 8), UInt8(truncatingIfNeeded: ip)),
      port: address.port)
  }
}

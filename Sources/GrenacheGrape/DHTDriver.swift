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
  private var lookups: [DHTRequestID: LoopPromise<DHTLookupResult>] = [:]
  private var deliveries: [DHTRequestID: LoopPromise<DHTDeliveryOutcome>] = [:]
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
      cryptography: .openSSL, using: &generator)
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
  ) async -> DHTDeliveryOutcome? {
    let promise = LoopPromise<DHTDeliveryOutcome>()
    let id = node.announce(key, port: port, ownAddress: ownAddress, now: now)
    deliveries[id] = promise
    perform(on: loop)
    let outcome = await promise.wait(until: deadline, on: loop)
    deliveries[id] = nil
    guard case .value(let result) = outcome else { return nil }
    return result
  }

  func received(
    _ datagram: Span<UInt8>, from source: SocketAddress, on loop: isolated EventLoop
  ) {
    node.datagramReceived(datagram, from: DHTAddress(source), now: now, using: &generator)
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
      case .deliveryFinished(let id, let outcome):
        deliveries[id]?.fulfil(outcome, on: loop)
      case .getFinished, .peersFound, .peersChanged, .itemStored, .identifierChanged:
        break
      }
    }
    loop.core.arm(timer, at: started + node.nextDeadline)
  }
}

extension DHTCryptography {
  static let openSSL = DHTCryptography(sha1: Digest.sha1) { signature, message, publicKey in
    Ed25519.isSignature(signature, of: message, by: publicKey)
  }
}

extension DHTAddress {
  init(_ address: SocketAddress) {
    switch address.unmapped.host {
    case .ipv4(let a, let b, let c, let d):
      let ip = UInt32(a) << 24 | UInt32(b) << 16 | UInt32(c) << 8 | UInt32(d)
      self.init(ip: ip, port: address.port)
    case .ipv6(let high, let low, _):
      self.init(host: DHTHost(high: high, low: low), port: address.port)
    }
  }
}

extension SocketAddress {
  init(_ address: DHTAddress) {
    switch address.family {
    case .ipv4:
      let ip = address.ip
      self.init(
        host: .ipv4(
          UInt8(truncatingIfNeeded: ip >> 24), UInt8(truncatingIfNeeded: ip >> 16),
          UInt8(truncatingIfNeeded: ip >> 8), UInt8(truncatingIfNeeded: ip)),
        port: address.port)
    case .ipv6:
      self.init(
        host: .ipv6(high: address.host.high, low: address.host.low, scope: 0), port: address.port)
    }
  }
}

import TestSupport

@testable import GrenacheDHT

/// Nodes and the network between them in virtual time: every run with the same seed is the same.
struct SimulatedNetwork {
  /// What happens to a datagram.
  struct Weather {
    var latency = Duration.milliseconds(20)
    var jitter = Duration.milliseconds(10)
    /// Of 100 datagrams.
    var lossPercent = 0
    var duplicatePercent = 0
  }
  private struct Datagram {
    var due: Duration
    var number: Int
    var bytes: [UInt8]
    var from: DHTAddress
    var to: DHTAddress
  }

  var weather = Weather()
  private(set) var now = Duration.zero
  private(set) var nodes: [DHTAddress: DHTNode] = [:]
  private(set) var lookups: [DHTLookupID: [DHTAddress: DHTLookupResult]] = [:]
  private(set) var announces: [DHTAnnounceID: [DHTAddress: DHTAnnounceOutcome]] = [:]
  private(set) var datagramCount = 0
  private var inFlight: [Datagram] = []
  private var generator: SeededGenerator

  init(seed: UInt64) {
    generator = SeededGenerator(seed: seed)
  }

  /// The address of the node of a number, each on a host of its own.
  static func address(_ number: Int) -> DHTAddress {
    DHTAddress(ip: 0x0a00_0000 + UInt32(number) + 1, port: 20_001)
  }

  /// Adds, or starts anew, a node.
  mutating func start(
    _ number: Int, bootstrap: [Int], configure: (inout DHTConfiguration) -> Void = { _ in }
  ) {
    var configuration = DHTConfiguration()
    configuration.bootstrap = bootstrap.map(Self.address)
    configure(&configuration)
    let address = Self.address(number)
    nodes[address] = DHTNode(
      id: .random(using: &generator), configuration: configuration, now: now, sha1: fakeSHA1,
      using: &generator)
    with(number) { node, now, generator in node.timerFired(now: now, using: &generator) }
  }

  mutating func stop(_ number: Int) {
    nodes[Self.address(number)] = nil
  }

  mutating func lookUp(_ key: [UInt8], at number: Int) -> DHTLookupID? {
    var id: DHTLookupID?
    with(number) { node, now, _ in id = node.lookUp(key, now: now) }
    return id
  }

  mutating func announce(_ key: [UInt8], port: UInt16, at number: Int) -> DHTAnnounceID? {
    var id: DHTAnnounceID?
    let own = DHTAddress(ip: Self.address(number).ip, port: port)
    with(number) { node, now, _ in
      id = node.announce(key, port: port, ownAddress: own, now: now)
    }
    return id
  }

  /// Looks a key up and waits, in virtual time, for the result.
  mutating func result(of key: [UInt8], at number: Int) -> DHTLookupResult? {
    guard let id = lookUp(key, at: number) else { return nil }
    let end = now + .seconds(10)
    while lookups[id]?[Self.address(number)] == nil, now < end, step() {}
    return lookups[id]?[Self.address(number)]
  }

  /// Announces a key and waits, in virtual time, for the outcome.
  mutating func outcome(of key: [UInt8], port: UInt16, at number: Int) -> DHTAnnounceOutcome? {
    guard let id = announce(key, port: port, at: number) else { return nil }
    let end = now + .seconds(10)
    while announces[id]?[Self.address(number)] == nil, now < end, step() {}
    return announces[id]?[Self.address(number)]
  }

  mutating func run(for time: Duration) {
    let end = now + time
    while let next = nextTime, next <= end { step() }
    now = end
  }

  mutating func inject(_ bytes: [UInt8], from: DHTAddress, to number: Int) {
    with(number) { node, now, generator in
      node.datagramReceived(bytes.span, from: from, now: now, using: &generator)
    }
  }

  private var nextTime: Duration? {
    let timers = nodes.values.map(\.nextDeadline).min()
    let datagrams = inFlight.map(\.due).min()
    return [timers, datagrams].compactMap { $0 }.min()
  }

  /// Does what is due next.
  @discardableResult
  private mutating func step() -> Bool {
    guard let next = nextTime else { return false }
    now = max(now, next)
    let due = inFlight.filter { $0.due <= now }.sorted { ($0.due, $0.number) < ($1.due, $1.number) }
    inFlight.removeAll { $0.due <= now }
    for datagram in due {
      guard var node = nodes[datagram.to] else { continue }
      node.datagramReceived(
        datagram.bytes.span, from: datagram.from, now: now, using: &generator)
      perform(&node, datagram.to)
      nodes[datagram.to] = node
    }
    for address in nodes.keys.sorted(by: { $0.ip < $1.ip }) {
      guard var node = nodes[address], node.nextDeadline <= now else { continue }
      node.timerFired(now: now, using: &generator)
      perform(&node, address)
      nodes[address] = node
    }
    return true
  }

  private mutating func with(
    _ number: Int, _ body: (inout DHTNode, Duration, inout SeededGenerator) -> Void
  ) {
    let address = Self.address(number)
    guard var node = nodes[address] else { return }
    body(&node, now, &generator)
    perform(&node, address)
    nodes[address] = node
  }

  private mutating func perform(_ node: inout DHTNode, _ address: DHTAddress) {
    while let action = node.nextAction() {
      switch action {
      case .send(let bytes, let to): send(bytes, from: address, to: to)
      case .lookupFinished(let id, let result): lookups[id, default: [:]][address] = result
      case .announceFinished(let id, let outcome): announces[id, default: [:]][address] = outcome
      }
    }
  }

  private mutating func send(_ bytes: [UInt8], from: DHTAddress, to: DHTAddress) {
    datagramCount += 1
    let copies = Int.random(in: 0..<100, using: &generator) < weather.duplicatePercent ? 2 : 1
    for _ in 0..<copies where Int.random(in: 0..<100, using: &generator) >= weather.lossPercent {
      let jitter = weather.jitter * Double.random(in: 0...1, using: &generator)
      inFlight.append(
        Datagram(
          due: now + weather.latency + jitter, number: datagramCount, bytes: bytes, from: from,
          to: to))
    }
  }
}

/// A stand-in of SHA-1's size, good enough to tell tokens apart.
@Sendable func fakeSHA1(_ bytes: [UInt8]) -> [UInt8] {
  var state: UInt64 = 0xcbf2_9ce4_8422_2325
  for byte in bytes { state = (state ^ UInt64(byte)) &* 0x100_0000_01b3 }
  return (0..<20).map { UInt8(truncatingIfNeeded: state >> UInt64($0 % 8 * 8)) &+ UInt8($0) }
}

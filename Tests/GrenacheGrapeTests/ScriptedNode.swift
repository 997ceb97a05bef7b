import GrenacheIO

@testable import GrenacheDHT
@testable import GrenacheGrape

/// A node of the DHT that names the peers that a test says, when it says so.
final class ScriptedNode: DatagramSocketDelegate {
  /// One for code that is on no loop.
  struct Handle: Sendable {
    let address: DHTAddress
    fileprivate let node: LoopBound<ScriptedNode>

    /// The keys of queries that wait for their answer.
    func held() async -> [[UInt8]] {
      await node.loop.run { loop in node.get(on: loop).held.map(\.key) }
    }

    /// How often it was asked for the peers of a key.
    func asked() async -> Int {
      await node.loop.run { loop in node.get(on: loop).asked }
    }

    /// Answers what waits, and from now on everything at once.
    func release() async {
      await node.loop.run { loop in node.get(on: loop).release() }
    }

    func stop() async {
      await node.loop.run { loop in node.get(on: loop).socket.stop(on: loop) }
    }
  }

  private let socket: DatagramSocket
  private let id: NodeID
  private let peers: @Sendable ([UInt8]) -> [DHTAddress]
  private var isHolding: Bool
  private var held: [(key: [UInt8], transaction: [UInt8]?, source: SocketAddress)] = []
  private var asked = 0

  /// - Parameter isHolding: whether queries for peers wait to be released.
  static func start(
    isHolding: Bool = false, naming peers: @escaping @Sendable ([UInt8]) -> [DHTAddress]
  ) async throws -> Handle {
    try await EventLoopGroup.shared().next().run { loop in
      let node = try ScriptedNode(isHolding, peers)
      try node.socket.start(node, on: loop)
      guard let address = node.socket.localAddress else { throw TimedOut() }
      return Handle(address: DHTAddress(address), node: LoopBound(node, on: loop))
    }
  }

  private init(
    _ isHolding: Bool, _ peers: @escaping @Sendable ([UInt8]) -> [DHTAddress]
  ) throws(SystemCallError) {
    socket = try DatagramSocket(.loopback(port: 0))
    var generator = SystemRandomNumberGenerator()
    id = .random(using: &generator)
    self.isHolding = isHolding
    self.peers = peers
  }

  func received(_ datagram: Span<UInt8>, from source: SocketAddress, on loop: isolated EventLoop) {
    guard case .query(let query) = try? KRPCMessage(decoding: datagram) else { return }
    guard case .success(.getPeers(let key)) = query.content else {
      return answer(KRPCResponse(id: id), query.transaction, source)
    }
    asked += 1
    held.append((key, query.transaction, source))
    if !isHolding { release() }
  }

  private func release() {
    isHolding = false
    for (key, transaction, source) in held {
      var response = KRPCResponse(id: id)
      response.token = [1]
      let known = peers(key)
      if known.isEmpty { response.nodes = [] } else { response.peers = known }
      answer(response, transaction, source)
    }
    held = []
  }

  private func answer(
    _ response: KRPCResponse, _ transaction: [UInt8]?, _ source: SocketAddress
  ) {
    socket.send(response.encoded(transaction: transaction).span, to: source)
  }
}

/// Two nodes, of which one answers at once and the other when it is told to.
struct ScriptedPair: Sendable {
  let quick: ScriptedNode.Handle
  let slow: ScriptedNode.Handle

  /// What the one names for the key `svc`, and the other.
  static let first = DHTAddress(ip: 0x7f00_0001, port: 11)
  static let second = DHTAddress(ip: 0x7f00_0001, port: 22)

  static func with<Result: Sendable>(
    _ body: (ScriptedPair) async throws -> Result
  ) async throws -> Result {
    let quick = try await ScriptedNode.start { $0 == Array("svc".utf8) ? [first] : [] }
    let slow = try await ScriptedNode.start(isHolding: true) {
      $0 == Array("svc".utf8) ? [second] : []
    }
    do {
      let result = try await body(ScriptedPair(quick: quick, slow: slow))
      await quick.stop()
      await slow.stop()
      return result
    } catch {
      await quick.stop()
      await slow.stop()
      throw error
    }
  }

  /// A node that knows both and goes on without neither, however long it takes.
  var configuration: DHTConfiguration {
    var configuration = DHTConfiguration()
    configuration.bootstrap = [quick.address, slow.address]
    configuration.slowAfter = .seconds(60)
    configuration.slowAfterMin = .seconds(60)
    configuration.queryTimeout = .seconds(60)
    return configuration
  }
}

internal import Grenache
internal import GrenacheIO
internal import GrenacheTransport

/// A connection of a client to a run of a server. What goes one way comes in order, as over TCP.
final class SimulatedConnection {
  let client: Int
  let server: SimulatedServer
  let incarnation: Int
  fileprivate let closed: (_ inOrder: Bool) -> Void
  /// Something on it was lost in silence: it lasts until the keep-alive gives it up.
  fileprivate(set) var isCut = false
  fileprivate(set) var isClosed = false
  fileprivate var sentUntil = MonotonicTime(nanoseconds: 0)
  fileprivate var heardUntil = MonotonicTime(nanoseconds: 0)

  fileprivate init(
    _ client: Int, _ server: SimulatedServer, _ closed: @escaping (_ inOrder: Bool) -> Void
  ) {
    self.client = client
    self.server = server
    self.closed = closed
    incarnation = server.incarnation
  }

  /// Whether what is sent over it reaches the run that took it.
  var reaches: Bool {
    !isCut && server.incarnation == incarnation && server.state != .down
  }

  fileprivate func close(inOrder: Bool) {
    guard !isClosed else { return }
    isClosed = true
    closed(inOrder)
  }
}

/// Workers, grapes and what lies between, in virtual time.
final class CallNetwork {
  private struct Cut: Hashable {
    var client: Int
    var server: Endpoint
  }
  let timeline: Timeline
  let grapes: [SimulatedGrape]
  private(set) var servers: [SimulatedServer] = []
  var latencyMs = 1...10 {
    didSet { for grape in grapes { grape.latencyMs = latencyMs } }
  }
  /// How long a lookup still names who is gone, and does not name who is new.
  var lagMs = 0...2_000
  private var cuts: Set<Cut> = []
  private var connections: [SimulatedConnection] = []

  init(_ timeline: Timeline, grapes count: Int) {
    self.timeline = timeline
    grapes = (0..<count).map { SimulatedGrape($0, timeline) }
  }

  private var latency: Duration { timeline.milliseconds(latencyMs) }

  // MARK: Workers

  func add(_ server: SimulatedServer, after lag: Duration? = nil) {
    servers.append(server)
    announce(server, after: lag)
  }

  func remove(_ server: SimulatedServer) { servers.removeAll { $0 === server } }

  /// A server has come or gone, which each grape knows after a time of its own.
  func announce(_ server: SimulatedServer, after lag: Duration? = nil) {
    for grape in grapes {
      grape.note(server.endpoint, after: lag ?? timeline.milliseconds(lagMs)) { [self] in
        server.takesConnections && servers.contains { $0 === server }
      }
    }
  }

  // MARK: Partitions

  /// Nothing goes between that client and that server from now on, or does again. Connections that there
  /// were do not recover.
  func cut(_ client: Int, _ server: SimulatedServer, _ isCut: Bool) {
    let cut = Cut(client: client, server: server.endpoint)
    if isCut { cuts.insert(cut) } else { cuts.remove(cut) }
    guard isCut else { return }
    for connection in connections
    where connection.client == client && connection.server === server {
      lose(connection)
    }
  }

  /// The same between that server and everybody.
  func silence(_ server: SimulatedServer, _ isSilent: Bool) {
    server.isSilent = isSilent
    guard isSilent else { return }
    for connection in connections where connection.server === server { lose(connection) }
  }

  func healCuts() { cuts = [] }

  private func lose(_ connection: SimulatedConnection) {
    guard !connection.isCut, !connection.isClosed else { return }
    connection.isCut = true
    timeline.after(timeline.milliseconds(15_000...50_000)) { connection.close(inOrder: false) }
  }

  private func isCut(_ client: Int, _ server: SimulatedServer) -> Bool {
    server.isSilent || cuts.contains(Cut(client: client, server: server.endpoint))
  }

  // MARK: Connections

  /// - Parameters:
  ///   - connected: the connection, or `nil` where nobody takes it; never, where nothing goes through.
  ///   - closed: told when it ends.
  func connect(
    _ client: Int, to endpoint: Endpoint, _ connected: @escaping (SimulatedConnection?) -> Void,
    closed: @escaping (_ inOrder: Bool) -> Void
  ) {
    timeline.after(latency * 2) { [self] in
      guard let server = servers.first(where: { $0.endpoint == endpoint }) else {
        return connected(nil)
      }
      guard !isCut(client, server) else { return }
      guard server.takesConnections else { return connected(nil) }
      let connection = SimulatedConnection(client, server, closed)
      connections.removeAll { $0.isClosed }
      connections.append(connection)
      connected(connection)
      server.watch { [self] inOrder in
        guard !connection.isCut else { return }
        deliver(over: connection) { connection.close(inOrder: inOrder) }
      }
    }
  }

  func send(
    _ call: SimulatedCall, timeoutMs: UInt32, over connection: SimulatedConnection,
    _ reply: @escaping (SimulatedReply) -> Void
  ) {
    carry(over: connection) { [self] in
      // Who sends to an end that is gone hears of it by the connection's end.
      connection.server.receive(call, timeoutMs: timeoutMs) { [self] answer in
        guard !connection.isCut else { return }
        deliver(over: connection) { if !connection.isClosed { reply(answer) } }
      }
    }
  }

  func cancel(_ call: SimulatedCall, over connection: SimulatedConnection) {
    carry(over: connection) { connection.server.cancel(call) }
  }

  private func carry(over connection: SimulatedConnection, _ action: @escaping () -> Void) {
    connection.sentUntil = max(timeline.now + latency, connection.sentUntil)
    timeline.at(connection.sentUntil) { if connection.reaches { action() } }
  }

  private func deliver(over connection: SimulatedConnection, _ action: @escaping () -> Void) {
    connection.heardUntil = max(timeline.now + latency, connection.heardUntil)
    timeline.at(connection.heardUntil) { if !connection.isCut { action() } }
  }
}

internal import Grenache
internal import GrenacheIO
internal import GrenacheTransport

/// Workers, a lookup and what lies between, in virtual time.
final class CallNetwork {
  let timeline: Timeline
  var servers: [SimulatedServer] = []
  var latencyMs = 1...10
  /// How long the lookup still names who is gone, and does not name who is new.
  var lag = Duration.seconds(2)
  /// No grape answers.
  var isGrapeDown = false
  private var announced: [Endpoint] = []

  init(_ timeline: Timeline) { self.timeline = timeline }

  func add(_ server: SimulatedServer) {
    servers.append(server)
    announced.append(server.endpoint)
  }

  func server(at endpoint: Endpoint) -> SimulatedServer? {
    servers.first { $0.endpoint == endpoint }
  }

  func announce(_ server: SimulatedServer) {
    timeline.after(lag) { [self] in
      if server.takesConnections, !announced.contains(server.endpoint) {
        announced.append(server.endpoint)
      }
    }
  }

  /// What is withdrawn is gone soon, what has died only with time.
  func withdraw(_ server: SimulatedServer) {
    timeline.after(lag) { [self] in
      if !server.takesConnections { announced.removeAll { $0 == server.endpoint } }
    }
  }

  private var arrivals: [Endpoint: MonotonicTime] = [:]

  /// What a server says comes in the order in which it says it, as over TCP.
  private func deliver(from server: SimulatedServer, _ action: @escaping () -> Void) {
    let due = max(timeline.now + latency, arrivals[server.endpoint] ?? timeline.now)
    arrivals[server.endpoint] = due
    timeline.at(due, action)
  }

  private var latency: Duration { timeline.milliseconds(latencyMs) }

  func lookUp(_ answer: @escaping ([Endpoint]?) -> Void) {
    let found = isGrapeDown ? nil : announced
    timeline.after(isGrapeDown ? .milliseconds(2_500) : latency * 2) { answer(found) }
  }

  /// - Parameters:
  ///   - connected: the run of the server that took the connection, or `nil`.
  ///   - closed: told when it ends, unless nobody is told.
  func connect(
    to endpoint: Endpoint, _ connected: @escaping (Int?) -> Void,
    closed: @escaping (_ inOrder: Bool) -> Void
  ) {
    timeline.after(latency * 2) { [self] in
      guard let server = server(at: endpoint), !server.isSilent else { return }
      guard server.takesConnections else { return connected(nil) }
      connected(server.incarnation)
      server.watch { [self] inOrder in
        // Of whom one hears nothing any more, the keep-alive gives up.
        guard !server.isSilent else { return timeline.after(.seconds(50)) { closed(false) } }
        let isWhole = inOrder && !server.hasBeenSilent
        deliver(from: server) { closed(isWhole) }
      }
    }
  }

  func send(
    _ call: SimulatedCall, timeLeft: Duration, to endpoint: Endpoint, _ incarnation: Int,
    _ reply: @escaping (SimulatedReply) -> Void
  ) {
    timeline.after(latency) { [self] in
      // Who sends to an end that is gone hears of it by the connection's end.
      guard let server = server(at: endpoint), !server.isSilent, server.state != .down,
        server.incarnation == incarnation
      else { return }
      server.receive(call, timeLeft: timeLeft) { [self] answer in
        guard !server.isSilent else { return }
        deliver(from: server) { reply(answer) }
      }
    }
  }

  func cancel(_ call: SimulatedCall, at endpoint: Endpoint) {
    timeline.after(latency) { [self] in
      guard let server = server(at: endpoint), !server.isSilent else { return }
      server.cancel(call)
    }
  }
}

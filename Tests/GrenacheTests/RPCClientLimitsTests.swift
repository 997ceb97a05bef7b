import GrenacheFraming
import GrenacheIO
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@testable import Grenache

/// A worker that is nothing but how busy it is.
private final class Candidate: RPCCandidate {
  var standing = WorkerStanding(sitOutTime: .zero)
  var isWarm = true
  var isConnecting: Bool { false }
}

@Suite("Whom a call goes to, and how often")
struct RPCDecisionTests {
  private let now = MonotonicTime(nanoseconds: 1_000)

  private func group(_ count: Int) -> RPCWorkerGroup<Candidate> {
    let group = RPCWorkerGroup<Candidate>(
      warmMax: count, retries: RetryBudget(ratio: 1, burstMax: 100))
    let endpoints = (1...count).map { Endpoint(host: "10.0.0.\($0)", port: 1) }
    group.update(endpoints) { _ in Candidate() }
    return group
  }

  @Test("of two workers the less busy one is taken, and of two that are as busy each")
  func lessBusy() {
    var generator = SeededGenerator(seed: 1)
    let group = group(2)
    let (one, other) = (group.workers[0], group.workers[1])
    for (busy, idle) in [(one, other), (other, one)] {
      busy.standing.callsInFlight = 2
      idle.standing.callsInFlight = 1
      for _ in 0..<100 {
        #expect(group.choose(avoiding: [], at: now, using: &generator)?.worker === idle)
      }
    }
    one.standing.callsInFlight = other.standing.callsInFlight
    let chosen = (0..<100).map { _ in
      group.choose(avoiding: [], at: now, using: &generator)?.worker === one
    }
    #expect(chosen.contains(true) && chosen.contains(false))
  }

  @Test("of many workers the busiest is never taken, and every other one is")
  func twoOfMany() {
    var generator = SeededGenerator(seed: 2)
    let group = group(5)
    for (index, worker) in group.workers.enumerated() { worker.standing.callsInFlight = index }
    var counts = [Int](repeating: 0, count: 5)
    for _ in 0..<1_000 {
      let chosen = group.choose(avoiding: [], at: now, using: &generator)?.worker
      for index in 0..<5 where group.workers[index] === chosen { counts[index] += 1 }
    }
    // Of ten pairs of five, 4, 3, 2, 1 and none have each of them for the less busy one.
    for (index, share) in [400, 300, 200, 100, 0].enumerated() {
      #expect(abs(counts[index] - share) <= (share == 0 ? 0 : 60), "\(counts)")
    }
  }

  @Test("a call is sent again as often as the limit says, not once more", arguments: [0, 1, 2])
  func retries(_ retriesMax: Int) {
    var generator = SeededGenerator(seed: 3)
    let group = group(6)
    let limits = RPCCallLimits(
      isIdempotent: true, deadline: MonotonicTime(nanoseconds: .max), retriesMax: retriesMax)
    let plan = RPCCallPlan<Candidate>("service", limits)
    var failure: GrenacheError?
    var sent = 0
    while failure == nil, sent < 6 {
      guard case .call(let worker, _) = plan.next(in: group, at: now, using: &generator) else {
        break
      }
      sent += 1
      failure = plan.failed(
        GrenacheError(.connectionLost, "lost"), at: worker, now: now, using: &generator)
    }
    #expect(failure?.code == .connectionLost)
    #expect(sent == retriesMax + 1)
  }
}

@Suite("The limits of a client", .timeLimit(.minutes(1)))
struct RPCClientLimitsTests {
  let authority: TestAuthority
  let one: [UInt8] = [0x31]

  init() throws { authority = try TestAuthority() }

  /// Tells the port of the caller; to those who say `1` not before `gate` opens.
  private static func service(begun: Tally, gate: Tally) -> RPCService {
    RPCService(raw: "rpc_test") { request in
      if request.payload == [0x31] {
        await begun.add()
        await gate.reaches(1)
      }
      return Array("\(request.remoteAddress.port)".utf8)
    }
  }

  @Test(
    "maxActiveDestTransports: as many connections as the limit are made, and not one more",
    arguments: [1, 2, 3])
  func connections(_ limit: Int) async throws {
    let (begun, gate) = (Tally(), Tally())
    try await withServer(
      [Self.service(begun: begun, gate: gate)], tls: try authority.worker("rpc_test")
    ) { worker in
      let client = try await directClient(try authority.client()) {
        $0.connectionsPerWorkerMax = limit
        $0.callsPerConnection = 1
      }
      let ports = Mutex<Set<[UInt8]>>([])
      var held: [Task<[UInt8], any Error>] = []
      // Each round makes every connection that is open busy, so that another one is wanted.
      for round in 1...20 {
        held.append(
          Task { try await client.requestRaw("rpc_test", [0x31], to: worker).result })
        await begun.reaches(round)
        for _ in 0..<10 {
          _ = try await client.requestRaw("rpc_test", [0x32], to: worker)
        }
        let port = try await client.requestRaw("rpc_test", [0x32], to: worker).result
        ports.withLock { _ = $0.insert(port) }
      }
      await gate.add()
      for call in held {
        let port = try await call.value
        ports.withLock { _ = $0.insert(port) }
      }
      #expect(ports.withLock { $0.count } == limit)
      await client.close()
    }
  }

  @Test("callsInFlightMax: as many calls as the limit are made; one more fails, and is not sent")
  func callsInFlight() async throws {
    let (begun, gate) = (Tally(), Tally())
    try await withServer(
      [Self.service(begun: begun, gate: gate)], tls: try authority.worker("rpc_test")
    ) { worker in
      let client = try await directClient(try authority.client()) { $0.callsInFlightMax = 2 }
      let calls = (0..<2).map { _ in
        Task { try await client.requestRaw("rpc_test", [0x31], to: worker) }
      }
      await begun.reaches(2)
      let error = await #expect(throws: GrenacheError.self) {
        try await client.requestRaw("rpc_test", [0x32], to: worker)
      }
      #expect(error?.code == .limitReached)
      await gate.add()
      for call in calls { _ = try await call.value }
      _ = try await client.requestRaw("rpc_test", [0x32], to: worker)
      await client.close()
    }
  }

  @Test("idleTimeout: a connection without calls is closed when the time is over, not before")
  func idle() async throws {
    let (closings, closing) = AsyncStream.makeStream(of: WebSocketCloseCode?.self)
    let server = try await HTTPServer(
      on: .loopback(port: 0), context: try TLSContext(authority.worker("rpc_test")),
      configuration: HTTPServerConfiguration(),
      handlers: HTTPServerHandlers(
        respond: { _ in HTTPServerResponse(.notFound) },
        openWebSocket: { _, _ in EchoingHandler { closing.yield($0) } }),
      group: EventLoopGroup(count: 1), logger: quietLogger)
    let client = try await directClient(try authority.client()) {
      $0.idleTimeout = .milliseconds(1_500)
    }
    let start = ContinuousClock.now
    _ = try await client.requestRaw("rpc_test", one, to: Endpoint(server.localAddress))
    for await code in closings {
      #expect(code == .normal)
      break
    }
    #expect(ContinuousClock.now - start >= .milliseconds(1_500))
    await client.close()
    await server.shutDown(within: .zero)
  }

  @Test("calls that wait because their worker does not read are all sent when it reads on")
  func waitingForRoom() async throws {
    let blocking = RPCService(raw: "blocking") { request in
      // The worker's only loop stands still.
      let end = MonotonicTime.now() + .seconds(1)
      while MonotonicTime.now() < end {}
      return request.payload
    }
    let length = RPCService(raw: "rpc_test") { Array("\($0.payload.count)".utf8) }
    let payload = Array("\"\(String(repeating: "x", count: 512 << 10))\"".utf8)
    try await withServer([blocking, length], tls: try authority.worker("*")) { worker in
      let client = try await directClient(try authority.client()) { $0.connectionsPerWorkerMax = 1 }
      let blocks = Task { try await client.requestRaw("blocking", [0x31], to: worker) }
      // More than the kernel's buffers take.
      let lengths = try await withThrowingTaskGroup(of: RPCReply.self) { group in
        for _ in 0..<60 {
          group.addTask {
            try await client.requestRaw("rpc_test", payload, to: worker, within: .seconds(40))
          }
        }
        return try await group.reduce(into: []) { $0.append($1.result) }
      }
      #expect(lengths == Array(repeating: Array("\(payload.count)".utf8), count: 60))
      _ = try await blocks.value
      await client.close()
    }
  }

  @Test("lookupsInFlightMax: as many lookups as the limit are made; one more fails")
  func lookups() async throws {
    let gate = Tally()
    try await FakeGrape.with(
      try authority.host(),
      answer: { _, _ in
        await gate.reaches(1)
        return (200, #"["10.0.0.1:5"]"#)
      }
    ) { grape, asked in
      var configuration = LinkConfiguration(grapes: [grape], tls: try authority.client())
      configuration.lookupsInFlightMax = 2
      configuration.attemptTimeout = .seconds(30)
      let link = try await Link(configuration, logger: quietLogger)
      let lookups = ["a", "b", "a"].map { name in
        Task { try await link.lookup(name, within: .seconds(30)).count }
      }
      try await eventually { asked() >= 2 }
      let error = await #expect(throws: GrenacheError.self) { try await link.lookup("c") }
      #expect(error?.code == .limitReached)
      await gate.add()
      for lookup in lookups { #expect(try await lookup.value == 1) }
      #expect(try await link.lookup("c").count == 1)
      await link.close()
    }
  }
}

/// Answers every call with its payload and tells how the connection was closed.
private final class EchoingHandler: WebSocketHandler {
  private let tell: (WebSocketCloseCode?) -> Void

  init(_ tell: @escaping (WebSocketCloseCode?) -> Void) { self.tell = tell }

  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    guard let envelope = RPCRequestEnvelope(payload, checksUTF8: false) else { return }
    var reply: [UInt8] = []
    RPCReplyEnvelope.append(
      rid: envelope.rid.bytes(in: payload), result: envelope.payload.bytes(in: payload), to: &reply)
    connection.send(.text, reply.span, on: loop)
  }

  func closed(
    _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop
  ) {
    tell(closure.code)
  }
}

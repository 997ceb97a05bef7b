import GrenacheIO
import GrenacheTransport
import ServiceLifecycle
import TestSupport
import Testing

@testable import Grenache

private final class Candidate: RPCCandidate {
  enum State { case cold, connecting, warm }
  var standing = WorkerStanding(sitOutTime: .milliseconds(100))
  var state: State
  let port: UInt16

  init(_ port: UInt16, _ state: State) {
    self.port = port
    self.state = state
  }

  var isWarm: Bool { state == .warm }
  var isConnecting: Bool { state == .connecting }
}

@Suite("Whom a call waits for, and who is kept connected")
struct RPCChoiceTests {
  private let now = MonotonicTime(nanoseconds: 1_000)

  private func endpoints(_ count: Int) -> [Endpoint] {
    (0..<count).map { Endpoint(host: "10.0.0.1", port: UInt16($0)) }
  }

  private func group(
    _ states: [Candidate.State], warmMax: Int = 5, burstMax: Int = 100
  ) -> RPCWorkerGroup<Candidate> {
    let group = RPCWorkerGroup<Candidate>(
      warmMax: warmMax, retries: RetryBudget(ratio: 0, burstMax: burstMax))
    group.update(endpoints(states.count)) { Candidate($0.port, states[Int($0.port)]) }
    return group
  }

  @Test("while none is connected two are connected to at once, and more with each call")
  func nothingWarm() throws {
    var generator = SeededGenerator(seed: 1)
    for warmMax in [1, 2, 5] {
      let group = group([.cold, .cold, .cold], warmMax: warmMax)
      var connected: [Int] = []
      for _ in 0..<4 {
        let choice = try #require(group.choose(avoiding: [], at: now, using: &generator))
        #expect(choice.warmUp == nil || choice.warmUp !== choice.worker)
        choice.worker.state = .connecting
        choice.warmUp?.state = .connecting
        connected.append(group.workers.count { $0.isConnecting })
      }
      #expect(connected == [1: [1, 1, 1, 1], 2: [2, 2, 2, 2], 5: [2, 3, 3, 3]][warmMax])
    }
  }

  @Test("who has been tried counts among those that are connected")
  func triedAreConnected() throws {
    var generator = SeededGenerator(seed: 6)
    for state in [Candidate.State.warm, .connecting] {
      let group = group([state, state, .cold], warmMax: 2)
      let choice = group.choose(
        avoiding: [group.workers[0]], at: now, using: &generator)
      #expect(choice?.worker === group.workers[1] && choice?.warmUp == nil)
    }
  }

  @Test("of more that are connected than the limit, those known longest are called")
  func limit() throws {
    var generator = SeededGenerator(seed: 2)
    let group = group([.warm, .warm, .warm, .warm, .warm, .warm], warmMax: 3)
    func drawn() -> Set<UInt16> {
      Set(
        (0..<200).compactMap { _ in
          group.choose(avoiding: [], at: now, using: &generator)?.worker.port
        })
    }
    #expect(drawn() == [0, 1, 2])
    group.workers[1].standing.sitOut(from: now, using: &generator)
    #expect(drawn() == [0, 2, 3])
  }

  @Test("whatever the order of what lookups find, that of the workers stays")
  func order() {
    let group = group([.warm, .warm, .warm, .warm])
    let all = endpoints(4)
    group.update(all.reversed()) { Candidate($0.port, .warm) }
    #expect(group.endpoints == all)
    let other = Endpoint(host: "10.0.0.2", port: 9)
    group.update([other, all[3], all[0]]) { Candidate($0.port, .warm) }
    #expect(group.endpoints == [all[0], all[3], other])
  }

  private func plan(_ deadline: MonotonicTime = .init(nanoseconds: .max)) -> RPCCallPlan<Candidate>
  {
    RPCCallPlan(
      "service", RPCCallLimits(isIdempotent: true, deadline: deadline, retriesMax: 2))
  }

  @Test("P34 what nobody else can take costs no retry and asks no grape")
  func nobodyElse() {
    var generator = SeededGenerator(seed: 3)
    let group = group([.warm], burstMax: 1)
    for _ in 0..<10 {
      let plan = plan()
      guard case .call(let worker, _) = plan.next(in: group, at: now, using: &generator) else {
        Issue.record("there is a worker")
        return
      }
      let error = GrenacheError(.overloaded, "busy")
      #expect(plan.failed(error, at: worker, now: now, using: &generator) == nil)
      guard case .fail(error) = plan.next(in: group, at: now, using: &generator) else {
        Issue.record("there is nobody else")
        return
      }
    }
    let isLeft = group.retries.withdraw()
    #expect(isLeft)
  }

  @Test("who was waited for while another one was connected to has not been tried")
  func moved() throws {
    var generator = SeededGenerator(seed: 7)
    let group = group([.connecting, .warm], burstMax: 1)
    let plan = RPCCallPlan<Candidate>(
      "service",
      RPCCallLimits(
        isIdempotent: true, deadline: MonotonicTime(nanoseconds: .max), retriesMax: 2),
      tried: [group.workers[0]])
    func failed(_ code: GrenacheError.Code, at worker: Candidate) -> GrenacheError? {
      plan.failed(GrenacheError(code, "x"), at: worker, now: now, using: &generator)
    }
    #expect(failed(.connectedElsewhere, at: group.workers[0]) == nil)
    for expected in [group.workers[1], group.workers[0]] {
      guard case .call(let worker, _) = plan.next(in: group, at: now, using: &generator) else {
        Issue.record("one of them has not been tried")
        return
      }
      #expect(worker === expected)
      #expect(failed(.connectionLost, at: worker) == nil)
    }
    guard case .lookUp = plan.next(in: group, at: now, using: &generator) else {
      Issue.record("all have been tried")
      return
    }
  }

  @Test("P34 each service has a budget of its own; the last retry is made, and not one more")
  func budgets() {
    var generator = SeededGenerator(seed: 4)
    let (one, other) = (group([.warm, .warm], burstMax: 3), group([.warm, .warm], burstMax: 3))
    func isSentAgain(in group: RPCWorkerGroup<Candidate>) -> Bool {
      let plan = plan()
      guard case .call(let worker, _) = plan.next(in: group, at: now, using: &generator) else {
        return false
      }
      _ = plan.failed(
        GrenacheError(.connectionLost, "lost"), at: worker, now: now, using: &generator)
      guard case .call = plan.next(in: group, at: now, using: &generator) else { return false }
      return true
    }
    #expect((0..<4).map { _ in isSentAgain(in: one) } == [true, true, true, false])
    #expect(isSentAgain(in: other))
  }

  @Test("who cannot be connected to sits out, but not for what this side is short of")
  func notConnected() {
    var generator = SeededGenerator(seed: 6)
    for (code, isReady) in [(TransportError.Code.outOfResources, true), (.connectFailed, false)] {
      let failure = TransportError(code, stage: .connect, message: "")
      let error = GrenacheError(
        connectingTo: Endpoint(host: "10.0.0.1", port: 1), for: "rpc_test", failure)
      let overHTTPS = GrenacheError(
        calling: "rpc_test", at: Endpoint(host: "10.0.0.1", port: 1), isLate: false, failure)
      #expect(error.code == (isReady ? .limitReached : .workerUnreachable))
      #expect(overHTTPS.code == error.code)
      #expect(error.isRetryable && error.cause == failure)
      var standing = WorkerStanding(sitOutTime: .seconds(1))
      standing.noteNotConnected(failure, at: now, using: &generator)
      #expect(standing.isReady(at: now) == isReady)
      standing.note(error.code, isSent: false, at: now, using: &generator)
      #expect(standing.isReady(at: now) == isReady)
    }
  }

  @Test("who does not answer in time three times in a row sits out; an answer counts anew")
  func hangs() {
    var generator = SeededGenerator(seed: 5)
    var standing = WorkerStanding(sitOutTime: .seconds(1))
    func timeOut() { standing.note(.deadlineExceeded, isSent: true, at: now, using: &generator) }
    for _ in 0..<2 {
      for _ in 1..<WorkerStanding.timeoutsMax { timeOut() }
      #expect(standing.isReady(at: now))
      standing.noteAnswer()
    }
    for _ in 0..<WorkerStanding.timeoutsMax { timeOut() }
    #expect(!standing.isReady(at: now))
  }
}

@Suite("P2 A black hole among workers", .timeLimit(.minutes(1)))
struct BlackHoleAmongWorkersTests {
  private let authority: TestAuthority
  private let one: [UInt8] = [0x31]

  init() throws { authority = try TestAuthority() }

  /// A black hole and a worker, of which each of six new clients draws one by chance.
  private func callOfNewClients(
    within time: Duration, _ options: RPCCallOptions = RPCCallOptions(),
    configure: (inout PeerRPCClientConfiguration) -> Void
  ) async throws {
    let hole = try ListenSocket(.loopback(port: 0))
    let address = try #require(hole.localAddress)
    let fleet = try await WorkerFleet([echo], authority: authority)
    fleet.grape.answer([Endpoint(address), fleet.workers[0].endpoint])
    for _ in 0..<6 {
      let link = try await Link(
        LinkConfiguration(grapes: [fleet.grape.endpoint], tls: try authority.client()),
        logger: quietLogger)
      var configuration = PeerRPCClientConfiguration()
      configure(&configuration)
      let client = await PeerRPCClient(link: link, configuration: configuration)
      let reply = try await client.requestRaw("rpc_test", one, within: time, options: options)
      #expect(reply.worker == fleet.workers[0].endpoint)
      await client.close()
      await link.close()
    }
    await fleet.stop()
  }

  @Test(
    "costs a new client no call, whatever its deadline and transport",
    arguments: [RPCTransport.wss, .https], [nil, Duration.milliseconds(1_500)])
  func newClient(_ transport: RPCTransport, _ attemptTimeout: Duration?) async throws {
    var options = RPCCallOptions()
    options.attemptTimeout = attemptTimeout
    try await callOfNewClients(within: .seconds(5), options) { $0.transport = transport }
  }

  @Test("is not waited for any longer when another worker is connected to")
  func moved() async throws {
    // Half of the time that is left is more than this test has.
    try await callOfNewClients(within: .seconds(200)) { $0.connectTimeout = .seconds(100) }
  }
}

@Suite("What a server and a client refuse to begin with", .timeLimit(.minutes(1)))
struct RPCRefusalTests {
  private let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  @Test("a call of a cancelled task is not sent")
  func cancelled() async throws {
    let begun = Tally()
    let service = RPCService(raw: "rpc_test") { request in
      await begun.add()
      return request.payload
    }
    // Without the extension nothing that has been sent can be called back.
    let fleet = try await WorkerFleet([service], authority: authority) { _ in
    } configure: {
      $0.offersExtension = false
    }
    let client = fleet.client
    let none = try await client.requestRaw("rpc_test", [0x31])
    #expect(none.result == [0x31])
    let code = await Task {
      withUnsafeCurrentTask { unsafe $0?.cancel() }
      do throws(GrenacheError) {
        _ = try await client.requestRaw("rpc_test", [0x32])
        return nil as GrenacheError.Code?
      } catch {
        return error.code
      }
    }.value
    #expect(code == .cancelled)
    // What had been sent would have come before this one.
    _ = try await client.requestRaw("rpc_test", [0x33])
    #expect(await begun.value == 2)
    await fleet.stop()
  }

  @Test("a client in a service group closes its connections when the group shuts down")
  func serviceGroup() async throws {
    let (begun, gate) = (Tally(), Tally())
    let service = RPCService(raw: "rpc_test") { request in
      await begun.add()
      await gate.reaches(1)
      return request.payload
    }
    let fleet = try await WorkerFleet([service], authority: authority)
    let client = fleet.client
    let call = Task { try await client.requestRaw("rpc_test", [0x31], within: .seconds(50)) }
    await begun.reaches(1)
    let group = ServiceGroup(services: [client], logger: quietLogger)
    await withTaskGroup { tasks in
      tasks.addTask { try? await group.run() }
      await group.triggerGracefulShutdown()
      await tasks.waitForAll()
    }
    let error = await #expect(throws: GrenacheError.self) { try await call.value }
    #expect(error?.code == .connectionLost)
    await gate.add()
    await fleet.stop()
  }

  @Test("two services of one name")
  func doubled() async throws {
    var configuration = PeerRPCServerConfiguration(port: 0, tls: try authority.worker("rpc_test"))
    configuration.host = "127.0.0.1"
    let streams = RPCService(stream: "rpc_test") { _, _ in }
    let server = PeerRPCServer(configuration, services: [echo, streams], logger: quietLogger)
    let error = await #expect(throws: GrenacheError.self) { try await server.run() }
    #expect(error?.code == .invalidConfiguration)
  }

  @Test(
    "an answer of a raw handler that is not one JSON value fails the call at once",
    arguments: ["", "text", "1 2"], [RPCTransport.wss, .https])
  func noJSON(_ answer: String, _ transport: RPCTransport) async throws {
    let service = RPCService(raw: "rpc_test") { _ in Array(answer.utf8) }
    let fleet = try await WorkerFleet([service], authority: authority) { _ in
    } configure: {
      $0.transport = transport
    }
    let error = await #expect(throws: GrenacheError.self) {
      try await fleet.client.requestRaw("rpc_test", [0x31])
    }
    #expect(error?.code == .remoteError && error?.message == "ERR_INTERNAL: the call failed")
    await fleet.stop()
  }

  @Test("handlers are tested without a server")
  func handlers() async throws {
    let service = RPCService("greeting") { (name: String, request: RPCRequest) -> String in
      "\(request.metadata["word"] ?? "hello") \(name)"
    }
    let request = RPCRequest(
      service: "greeting", payload: Array("\"you\"".utf8), metadata: ["word": "good day"])
    let answer = try await service.answer(request)
    #expect(answer == Array("\"good day you\"".utf8))
    let bad = RPCRequest(service: "greeting", payload: [0x31], timeLeft: .seconds(1))
    #expect(bad.timeLeft.map { $0 > .zero } == true)
    await #expect(throws: RPCFault.self) { try await service.answer(bad) }
  }

  @Test("map decodes what each worker answers, and goes on with those who are known without grapes")
  func mapDecodes() async throws {
    let text = RPCService(raw: "rpc_test") { _ in Array("\"text\"".utf8) }
    let fleet = try await WorkerFleet([echo, text], authority: authority)
    let results = try await fleet.client.map("rpc_test", 7, as: Int.self)
    #expect(results.compactMap { try? $0.result.get() } == [7])
    let failures = results.compactMap { one in
      if case .failure(let error) = one.result { return error.code as GrenacheError.Code? }
      return nil
    }
    #expect(failures == [.invalidReply])
    await fleet.grape.stop()
    let link = fleet.client.link
    await link.loop.run { loop in link.core(on: loop).expire("rpc_test", on: loop) }
    let known = try await fleet.client.mapRaw("rpc_test", [0x37])
    #expect(known.count == 2)
    await fleet.stop()
  }
}

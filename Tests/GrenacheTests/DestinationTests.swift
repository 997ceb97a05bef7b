import GrenacheIO
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@testable import Grenache

@Suite("Destinations", .timeLimit(.minutes(1)))
struct DestinationTests {
  @Test(
    "P28 one of three workers breaks off its calls and ends, under load: no idempotent call fails")
  func worker() async throws {
    let authority = try TestAuthority()
    let (done, held) = (Tally(), Tally())
    let dying = RPCService(raw: "rpc_test") { request in
      if await done.value >= 1_000 {
        await held.add()
        await untilCancelled()
      }
      return request.payload
    }
    let fleet = try await WorkerFleet([echo, dying, echo], authority: authority)
    let results = await withTaskGroup(of: ([Duration], Int).self) { group in
      for _ in 0..<24 {
        group.addTask {
          var times: [Duration] = []
          var failures = 0
          while await done.value < 3_000 {
            let start = ContinuousClock.now
            do {
              _ = try await fleet.client.requestRaw("rpc_test", [0x31], options: .idempotent)
            } catch {
              failures += 1
            }
            times.append(ContinuousClock.now - start)
            await done.add()
          }
          return (times, failures)
        }
      }
      group.addTask {
        // Not before calls are on their way to it.
        await held.reaches(3)
        await fleet.workers[1].stop()
        return ([], 0)
      }
      return await group.reduce(into: ([Duration](), 0)) { all, one in
        all.0 += one.0
        all.1 += one.1
      }
    }
    #expect(results.1 == 0)
    let times = results.0.sorted()
    #expect(times.count >= 3_000)
    #expect(times[times.count * 99 / 100] < .seconds(1))
    // A caller has one call under way: if all were held up at once, fewer than 1 % would be late.
    #expect(try #require(times.last) < .seconds(5))
    await fleet.stop()
  }

  @Test(
    "calls go to all of a service's workers, up to the number that are kept warm",
    arguments: [(2, 3), (5, 3), (5, 7)])
  func spread(_ warmMax: Int, _ workers: Int) async throws {
    let authority = try TestAuthority()
    let fleet = try await WorkerFleet(
      [RPCService](repeating: echo, count: workers), authority: authority,
      configure: { $0.activeWorkersMax = warmMax })
    var seen: [Endpoint: Int] = [:]
    let deadline = ContinuousClock.now + .seconds(20)
    var calls = 0
    while calls < 300 || (seen.count < min(warmMax, workers) && ContinuousClock.now < deadline) {
      seen[try await fleet.client.requestRaw("rpc_test", [0x31]).worker, default: 0] += 1
      calls += 1
    }
    #expect(seen.count == min(warmMax, workers))
    await fleet.stop()
  }

  @Test("an old lookup is used while the grape is gone, and renewed when it is there")
  func stale() async throws {
    let authority = try TestAuthority()
    let worker = try await RunningWorker([echo], tls: try authority.worker("rpc_test"))
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([worker.endpoint])
    var configuration = LinkConfiguration(grapes: [grape.endpoint], tls: try authority.client())
    configuration.cacheAge = .zero
    let client = await PeerRPCClient(link: try await Link(configuration, logger: quietLogger))
    _ = try await client.requestRaw("rpc_test", [0x31])
    _ = try await client.requestRaw("rpc_test", [0x31])
    try await eventually("another lookup") { grape.lookups >= 2 }
    await grape.stop()
    for _ in 0..<5 { _ = try await client.requestRaw("rpc_test", [0x31]) }
    await worker.stop()
  }

  @Test(
    "a call that fails while the grape is gone leaves what is known to those after it",
    arguments: [RPCTransport.wss, .https])
  func failureWithoutGrape(_ transport: RPCTransport) async throws {
    let begun = Tally()
    let gate = Tally()
    var service = RPCService(raw: "rpc_test") { request in
      await begun.add()
      await gate.reaches(1)
      return request.payload
    }
    service.callsMax = 1
    let fleet = try await WorkerFleet(
      [service], authority: try TestAuthority(), configure: { $0.transport = transport })
    let first = Task { try await fleet.client.requestRaw("rpc_test", [0x31]) }
    await begun.reaches(1)
    await fleet.grape.stop()
    let error = await #expect(throws: GrenacheError.self) {
      try await fleet.client.requestRaw("rpc_test", [0x31])
    }
    #expect(error?.code == .overloaded)
    await gate.add()
    _ = try await first.value
    for _ in 0..<5 { _ = try await fleet.client.requestRaw("rpc_test", [0x31]) }
    await fleet.workers[0].stop()
    // Nobody answers any more: that is what a call fails with, whoever cannot be asked.
    for _ in 0..<2 {
      let error = await #expect(throws: GrenacheError.self) {
        try await fleet.client.requestRaw("rpc_test", [0x31])
      }
      #expect(error?.code == .workerUnreachable)
    }
    await fleet.client.close()
  }

  private static func wait(_ time: Duration, on loop: isolated EventLoop) async {
    _ = await LoopPromise<Void>().wait(until: .now() + time, on: loop)
  }

  @Test("a hedged call that nobody else could answer costs neither a lookup nor a retry")
  func hedgedAlone() async throws {
    let authority = try TestAuthority()
    let (begun, hung) = (Tally(), Tally())
    let callers = try EventLoopGroup(count: 1)
    let slow = RPCService(raw: "rpc_test") { request in
      await begun.add()
      // A timer of the caller's loop that is due behind that of the hedge.
      await Self.wait(.milliseconds(40), on: callers.next())
      return request.payload
    }
    let hanging = RPCService(raw: "other") { request in
      guard request.payload == [0x32] else { return request.payload }
      await hung.add()
      await untilCancelled()
      return request.payload
    }
    let other = RPCService(raw: "other") { $0.payload }
    let first = try await RunningWorker([slow, hanging], tls: try authority.worker("*"))
    let second = try await RunningWorker([other], tls: try authority.worker("*"))
    let grape = try await FixedGrape(tls: try authority.host())
    let link = try await Link(
      LinkConfiguration(grapes: [grape.endpoint], tls: try authority.client()), group: callers,
      logger: quietLogger)
    var configuration = PeerRPCClientConfiguration()
    configuration.retryBurstMax = 1
    configuration.retryRatio = 0
    let client = await PeerRPCClient(link: link, configuration: configuration)
    var options = RPCCallOptions.idempotent
    options.hedgeDelay = .milliseconds(20)
    grape.answer([first.endpoint])
    for _ in 0..<3 { _ = try await client.requestRaw("rpc_test", [0x31], options: options) }
    #expect(await begun.value == 3)
    #expect(grape.lookups == 1)
    // The one retry is there when there is somebody else.
    grape.answer([first.endpoint, second.endpoint])
    // Both are connected to before, or a hedge is for the connection.
    var connected: Set<Endpoint> = []
    while connected.count < 2 {
      connected.insert(try await client.requestRaw("other", [0x31]).worker)
    }
    while await hung.value == 0 {
      let reply = try await client.requestRaw("other", [0x32], options: options)
      #expect(reply.worker == second.endpoint)
    }
    #expect(grape.lookups == 2)
    await client.close()
    await first.stop()
    await second.stop()
    await grape.stop()
  }

  @Test("P39 a rolling restart loses no call, idempotent or not")
  func rolling() async throws {
    let authority = try TestAuthority()
    let (done, held, gate) = (Tally(), Tally(), Tally())
    let ending = Tally()
    // Those of the worker that is about to end are answered once it has begun to.
    let services = (0..<3).map { index in
      RPCService(raw: "rpc_test") { request in
        if await ending.value == index + 1 {
          await held.add()
          await gate.reachesThoughCancelled(index + 1)
        }
        return request.payload
      }
    }
    let fleet = try await WorkerFleet(
      services, authority: authority, configureServer: { $0.drainTimeout = .seconds(10) })
    let stopped = Flag()
    let failures = await withTaskGroup(of: [GrenacheError].self) { group in
      for _ in 0..<12 {
        group.addTask {
          var failures: [GrenacheError] = []
          while !stopped.isSet {
            do throws(GrenacheError) {
              _ = try await fleet.client.requestRaw("rpc_test", [0x31])
            } catch {
              failures.append(error)
            }
            await done.add()
          }
          return failures
        }
      }
      group.addTask {
        for index in 0..<2 {
          await done.reaches((index + 1) * 500)
          fleet.grape.answer(fleet.workers[(index + 1)...].map(\.endpoint))
          let before = await held.value
          await ending.add()
          await held.reaches(before + 3)
          async let end: Void = fleet.workers[index].stop()
          await gate.add()
          await end
        }
        await done.reaches(1_500)
        stopped.set()
        return []
      }
      return await group.reduce(into: []) { $0 += $1 }
    }
    #expect(failures.isEmpty, "\(failures.prefix(3))")
    await fleet.stop()
  }
}

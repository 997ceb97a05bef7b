import Foundation
import Grenache
import GrenacheTLS
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

/// Workers as processes, and a client that calls them without a pause.
private final class ProcessFleet: Sendable {
  private let workers: Mutex<[RunningCommand]>
  private let client: PeerRPCClient
  private let isOver = Mutex(false)
  private let calls = Mutex(0)
  private let grape: RunningGrape
  private let api: String

  init(workers count: Int) async throws {
    grape = try await RunningGrape()
    api = grape.api
    workers = Mutex([])
    let endpoint = try #require(Endpoint(api))
    let tls = try GeneratedCertificates.configuration("client")
    var configuration = LinkConfiguration(grapes: [endpoint], tls: tls)
    configuration.cacheAge = .seconds(1)
    let link = try await Link(configuration, logger: quietLogger)
    client = await PeerRPCClient(link: link)
    for _ in 0..<count { try await startWorker() }
    let first = link
    try await eventually("every worker") { try await first.lookup("rpc_test").count >= count }
  }

  func startWorker() async throws {
    let worker = try RunningCommand(
      Programs.grenache,
      [
        "serve", "rpc_test", "--port", "0", "--json", "--echo", "--bind", "127.0.0.1", "--grape",
        api, "--tls-dir", GeneratedCertificates.directory("worker"),
      ])
    _ = await worker.firstLine()
    workers.withLock { $0.append(worker) }
  }

  func takeWorker() -> RunningCommand { workers.withLock { $0.removeFirst() } }

  /// Waits until so many more calls have been answered.
  func answers(_ count: Int) async throws {
    let end = calls.withLock { $0 } + count
    try await eventually { calls.withLock({ $0 }) >= end }
  }

  /// Keeps calling while `body` runs; how long the calls took, and what failed.
  func load(
    _ options: RPCCallOptions, during body: () async throws -> Void
  ) async throws -> (times: [Duration], failures: [GrenacheError]) {
    let tasks = (0..<12).map { _ in
      Task {
        var times: [Duration] = []
        var failures: [GrenacheError] = []
        while !isOver.withLock({ $0 }) {
          let start = ContinuousClock.now
          do throws(GrenacheError) {
            _ = try await client.requestRaw("rpc_test", [0x31], options: options)
          } catch {
            failures.append(error)
          }
          times.append(ContinuousClock.now - start)
          calls.withLock { $0 += 1 }
        }
        return (times, failures)
      }
    }
    try await body()
    isOver.withLock { $0 = true }
    var all = ([Duration](), [GrenacheError]())
    for task in tasks {
      let (times, failures) = await task.value
      all = (all.0 + times, all.1 + failures)
    }
    return (all.0.sorted(), all.1)
  }

  func stop() async {
    await client.close()
    for worker in workers.withLock({ $0 }) { _ = await worker.terminate() }
    _ = await grape.terminate()
  }
}

@Suite("Workers as processes", .timeLimit(.minutes(2)))
struct WorkerProcessTests {
  @Test("P28 one of three workers is killed under load: no idempotent call fails, p99 < 1 s")
  func killed() async throws {
    let fleet = try await ProcessFleet(workers: 3)
    let result = try await fleet.load(.idempotent) {
      try await fleet.answers(500)
      let victim = fleet.takeWorker()
      kill(victim.processIdentifier, SIGKILL)
      _ = await victim.end()
      try await fleet.answers(1_000)
    }
    #expect(result.failures.isEmpty, "\(result.failures.prefix(3))")
    #expect(result.times[result.times.count * 99 / 100] < .seconds(1))
    // A caller has one call under way: if all were held up at once, fewer than 1 % would be late.
    #expect(try #require(result.times.last) < .seconds(5))
    await fleet.stop()
  }

  @Test("P39 a rolling restart of processes loses no call, and each of them exits with 0")
  func rolling() async throws {
    let fleet = try await ProcessFleet(workers: 3)
    let result = try await fleet.load(RPCCallOptions()) {
      for _ in 0..<3 {
        try await fleet.answers(300)
        let worker = fleet.takeWorker()
        let start = ContinuousClock.now
        #expect(await worker.terminate() == 0)
        #expect(ContinuousClock.now - start < .seconds(30))
        try await fleet.startWorker()
      }
      try await fleet.answers(300)
    }
    #expect(result.failures.isEmpty, "\(result.failures.prefix(3))")
    await fleet.stop()
  }

  /// That of `grenache serve`.
  private static let drainTimeout = Duration.seconds(30)

  @Test("P39 a handler that never ends holds the end up to the drain deadline; its caller is told")
  func endless() async throws {
    let worker = try RunningCommand(
      Programs.grenache,
      [
        "serve", "rpc_test", "--port", "0", "--json", "--bind", "127.0.0.1", "--no-announce",
        "--verbose", "--exec", "exec sleep 600", "--tls-dir",
        GeneratedCertificates.directory("worker"),
      ])
    let address = member("address", of: await worker.firstLine())
    let endpoint = try #require(Endpoint(address), "\(worker.errors)")
    let nowhere = Endpoint(host: "127.0.0.1", port: 1)
    let tls = try GeneratedCertificates.configuration("client")
    let client = await PeerRPCClient(
      link: try await Link(LinkConfiguration(grapes: [nowhere], tls: tls), logger: quietLogger))
    let call = Task { () -> GrenacheError? in
      do throws(GrenacheError) {
        _ = try await client.requestRaw("rpc_test", [0x31], to: endpoint, within: .seconds(90))
        return nil
      } catch {
        return error
      }
    }
    #expect(await worker.says(" call"))
    let start = ContinuousClock.now
    #expect(await worker.terminate() == 0)
    let took = ContinuousClock.now - start
    // Beside the second that is promised what a busy machine adds.
    #expect(took >= Self.drainTimeout - .seconds(1) && took < Self.drainTimeout + .seconds(3))
    let error = await call.value
    #expect(error?.code == .connectionLost, "\(String(describing: error))")
    await client.close()
  }
}

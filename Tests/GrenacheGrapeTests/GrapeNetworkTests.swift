import GrenacheGrape
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@Suite("Many grapes, over real sockets")
struct GrapeNetworkTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private final class Flag: Sendable {
    let value = Atomic<Bool>(false)
  }

  /// A grape that can be ended and started again.
  private struct RunningGrape {
    let addresses: GrapeNode.Addresses
    let task: Task<Void, any Error>

    static func start(_ tls: TLSConfiguration, _ bootstrap: [Endpoint]) async throws -> Self {
      var configuration = GrapeConfiguration(
        apiPort: 0, dhtPort: 0, bootstrap: bootstrap, tls: tls)
      configuration.host = "127.0.0.1"
      configuration.dhtHost = "127.0.0.1"
      let node = GrapeNode(configuration, logger: quietLogger)
      let (started, continuation) = AsyncStream.makeStream(of: GrapeNode.Addresses.self)
      let task = Task {
        defer { continuation.finish() }
        try await node.run { addresses in continuation.yield(addresses) }
      }
      for await addresses in started { return RunningGrape(addresses: addresses, task: task) }
      try await task.value
      throw CancellationError()
    }

    func stop() async {
      task.cancel()
      _ = try? await task.value
    }
  }

  @Test("24 grapes: some are ended and others begun while lookups go on, and every one succeeds")
  func churn() async throws {
    let (host, client) = (try authority.host(), try authority.worker("svc:*"))
    var grapes: [RunningGrape] = []
    for number in 0..<24 {
      let bootstrap = grapes.prefix(2).map { Endpoint($0.addresses.dht) }
      grapes.append(try await .start(host, Array(bootstrap)))
      if number > 0 { try await waitUntilReady(grapes[number].addresses, as: client) }
    }
    for number in 0..<12 {
      let stored = try await post(
        "{\"data\":[\"svc:\(number)\",\(number + 1)]}", "/announce",
        to: grapes[number].addresses.api, as: client)
      #expect((Int(stored.body) ?? 0) >= 15, "\(stored.body)")
    }
    // Of those that never go, 0 to 11, each looks everything up while the others come and go.
    let stable = grapes.prefix(12).map(\.addresses)
    let isOver = Flag()
    let all = grapes
    let (asked, found) = try await withThrowingTaskGroup(of: (Int, Int).self) { group in
      group.addTask {
        for victim in 12..<24 {
          await all[victim].stop()
          let bootstrap = all.prefix(2).map { Endpoint($0.addresses.dht) }
          let again = try await RunningGrape.start(host, Array(bootstrap))
          try await waitUntilReady(again.addresses, as: client)
          await again.stop()
        }
        isOver.value.store(true, ordering: .relaxed)
        return (0, 0)
      }
      group.addTask {
        var (asked, found) = (0, 0)
        while !isOver.value.load(ordering: .relaxed) || asked < 24 {
          let number = asked % 12
          let answer = try await post(
            "{\"data\":\"svc:\(number)\"}", "/lookup", to: stable[(asked * 5 + 3) % 12].api,
            as: client)
          asked += 1
          if answer.body == "[\"127.0.0.1:\(number + 1)\"]" { found += 1 }
        }
        return (asked, found)
      }
      return try await group.reduce((0, 0)) { ($0.0 + $1.0, $0.1 + $1.1) }
    }
    #expect(asked > 20 && found == asked, "\(found) of \(asked)")
    for grape in grapes { await grape.stop() }
  }
}

import ArgumentParser
import Foundation
import Grenache
import GrenacheIO
import GrenacheTransport
import Synchronization

/// Workers, clients, publishers and subscribers, while grapes, workers and publishers are killed and
/// restarted.
struct FleetSoak: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Kill and restart processes of a fleet under load; fails with anything lost or leaked.")

  @Option(help: "Minutes.")
  var minutes = 5.0
  @Option(help: "Callers at the same time.")
  var callers = 16
  @Option(help: "Subscribers, the last of which does not keep up.")
  var subscribers = 4

  func run() async throws {
    let published = Published()
    let fleet = try Fleet(line: published.note)
    do {
      for _ in 0..<3 { try await fleet.add(.grape) }
      for _ in 0..<3 { try await fleet.add(.worker, "--work", "1") }
      for _ in 0..<2 { try await fleet.add(.publisher) }
      let isGood = try await soak(fleet, published)
      await fleet.end()
      guard isGood else { throw ExitCode.failure }
    } catch {
      await fleet.end()
      throw error
    }
  }

  private func soak(_ fleet: Fleet, _ published: Published) async throws -> Bool {
    // The event loops and what else all share is there from now on.
    await (try await fleet.link()).close()
    let before = ProcessUsage()
    let load = try await FleetLoad(fleet, published, callers: callers, subscribers: subscribers)
    let watch = LeakWatch(fleet)
    let chaos = FleetChaos(fleet)
    try await load.warmUp()
    let end = ContinuousClock.now + .seconds(minutes * 60)
    try await withThrowingTaskGroup { group in
      group.addTask { try await chaos.run(until: end) }
      group.addTask { try await watch.run(from: .now, until: end) }
      try await group.waitForAll()
    }
    let result = try await load.end(fleet)
    // Connections that have been closed linger for a moment.
    for _ in 0..<100 where ProcessUsage().sockets > before.sockets {
      try await Task.sleep(for: .milliseconds(100))
    }
    print(String(format: "%.1f minutes; ", minutes) + chaos.summary)
    for failure in chaos.failures.prefix(5) { print("  \(failure)") }
    let after = ProcessUsage()
    print("sockets of this process: \(before.sockets) before, \(after.sockets) after")
    for (kind, count) in after.kinds where count > before.kinds[kind] ?? 0 {
      print("  \(kind): \(before.kinds[kind] ?? 0) before, \(count) after")
    }
    let isGood = [
      chaos.failures.isEmpty, result.report(published), watch.report(),
      after.sockets <= before.sockets,
    ].allSatisfy(\.self)
    print(isGood ? "nothing lost, nothing leaked" : "FAILED")
    return isGood
  }
}

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
  @Flag(
    name: .shortAndLong, help: "Say on standard error who ends when, and which calls took long.")
  var verbose = false

  func run() async throws {
    let published = Published()
    let fleet = try Fleet(line: published.note)
    do {
      for _ in 0..<3 { try await fleet.add(.grape) }
      for _ in 0..<3 { try await fleet.add(.worker, "--work", "1") }
      for _ in 0..<2 { try await fleet.add(.publisher) }
      let isGood = try await soak(fleet, published)
      await fleet.end()
      print(isGood ? "nothing lost, nothing leaked" : "FAILED")
      guard isGood else { throw ExitCode.failure }
    } catch {
      await fleet.end()
      throw error
    }
  }

  private func soak(_ fleet: Fleet, _ published: Published) async throws -> Bool {
    let before = ProcessUsage.tcpSockets
    let log = SoakLog(isOn: verbose)
    let load = try await FleetLoad(
      fleet, published, callers: callers, subscribers: subscribers, log: log)
    let watch = LeakWatch(fleet)
    let chaos = FleetChaos(fleet, published, log: log)
    let pauses = MachinePauses(log: log)
    let stolen = StolenTime()
    try await load.warmUp()
    let end = ContinuousClock.now + .seconds(minutes * 60)
    try await withThrowingTaskGroup { group in
      group.addTask { try await chaos.run(until: end) }
      group.addTask { try await watch.run(from: .now, until: end) }
      try await group.waitForAll()
    }
    let result = try await load.end(fleet)
    print(String(format: "%.1f minutes; ", minutes) + chaos.summary)
    let paused = Int(pauses.end() / .milliseconds(1))
    print("the machine paused for \(paused) ms at the longest; \(stolen.summary)")
    for failure in chaos.failures.prefix(5) { print("  \(failure)") }
    // While the fleet is there, which would close what nobody else has.
    let isClosed = try await Self.socketsAreClosed(since: before)
    let isWell = [chaos.failures.isEmpty, result.report(published), watch.report(), isClosed]
      .allSatisfy(\.self)
    let faults = await fleet.endInOrder([.worker, .grape])
    for fault in faults { print("  \(fault)") }
    return isWell && faults.isEmpty
  }

  private static func socketsAreClosed(since before: Int) async throws -> Bool {
    // Connections that have been closed linger for a moment.
    for _ in 0..<100 where ProcessUsage.tcpSockets > before {
      try await Task.sleep(for: .milliseconds(100))
    }
    let after = ProcessUsage.tcpSockets
    print("TCP sockets of this process: \(before) before, \(after) after")
    return after <= before
  }
}

import Foundation
import Grenache
import GrenacheTransport
import TestSupport

/// P37: a thousand subscribers and a thousand callers come back after a restart.
enum Comebacks {
  static let count = 1_000

  static func measure() async throws -> Bool {
    let fleet = try Fleet()
    do {
      try await fleet.add(.grape)
      try await fleet.add(.publisher, "--pace", "200", "--message-bytes", "10")
      try await fleet.add(.worker)
      let subscribers = try await subscribersReturn(fleet)
      let callers = try await callersReturn(fleet)
      await fleet.end()
      return subscribers < .seconds(10) && callers < .seconds(10)
    } catch {
      await fleet.end()
      throw error
    }
  }

  private static func subscribersReturn(_ fleet: Fleet) async throws -> Duration {
    let link = try await fleet.link()
    let runs = Shared<[String]>([String](repeating: "", count: count))
    let tasks = try await withThrowingTaskGroup(of: [Task<Void, Never>].self) { group in
      for index in 0..<count {
        group.addTask {
          let sub = try await PeerSub(Member.key, link: link)
          let listening = Task {
            for await event in sub {
              guard case .message(let message, _) = event else { continue }
              let run = String(message.text.prefix { $0 != " " })
              runs.withLock { $0[index] = run }
            }
          }
          return [Task { await sub.run() }, listening]
        }
      }
      return try await group.reduce(into: []) { $0 += $1 }
    }
    let took = try await restart(fleet, .publisher) { $0 = runs.withLock { $0 } }
    Promises.show("P37 \(count) subscribers back \(took) after the publisher")
    for task in tasks { task.cancel() }
    for task in tasks { await task.value }
    return took
  }

  /// Waits until everybody has been served, kills the member, and starts it again a second later; how
  /// long after it is ready everybody is served anew.
  private static func restart(
    _ fleet: Fleet, _ role: Member.Role, _ served: (inout [String]) -> Void
  ) async throws -> Duration {
    var before: [String] = [""]
    try await eventually("everybody served", within: .seconds(120)) {
      served(&before)
      return !before.contains("")
    }
    await fleet.member(role, 0)?.kill()
    try await Task.sleep(for: .seconds(1))
    served(&before)
    try await fleet.replace(role, 0, samePort: true)
    let start = ContinuousClock.now
    let cpu = ProcessUsage().cpuSeconds
    var after = before
    var shown = 0
    while zip(before, after).contains(where: ==), ContinuousClock.now < start + .seconds(60) {
      try await Task.sleep(for: .milliseconds(10))
      served(&after)
      let back = zip(before, after).reduce(0) { $0 + ($1.0 == $1.1 ? 0 : 1) }
      if back >= shown + count / 10 {
        shown = back
        Promises.show("    \(back) after \(ContinuousClock.now - start)")
      }
    }
    let took = ContinuousClock.now - start
    Promises.show(
      String(
        format: "    processor time: %.2f s here, %.2f s of the other side",
        ProcessUsage().cpuSeconds - cpu, fleet.member(role, 0)?.usage.cpuSeconds ?? 0))
    return took
  }

  private static func callersReturn(_ fleet: Fleet) async throws -> Duration {
    let link = try await fleet.link()
    let answered = Shared<[Int]>([Int](repeating: 0, count: count))
    var tasks: [Task<Void, Never>] = []
    for index in 0..<count {
      tasks.append(
        Task {
          let client = await PeerRPCClient(link: link)
          while !Task.isCancelled {
            let reply = try? await client.requestRaw(
              Member.service, [0x31], within: .seconds(3), options: .idempotent)
            if reply != nil { answered.withLock { $0[index] += 1 } }
            try? await Task.sleep(for: .milliseconds(300))
          }
          await client.close()
        })
    }
    let took = try await restart(fleet, .worker) { served in
      served = answered.withLock { $0.map { $0 == 0 ? "" : "\($0)" } }
    }
    Promises.show("P37 \(count) callers, each with a connection, back \(took) after the worker")
    for task in tasks { task.cancel() }
    for task in tasks { await task.value }
    return took
  }
}

import Foundation
import Synchronization

/// Kills and restarts members of a fleet, one at a time; the first of each role is left alone, so that it
/// shows what leaks.
final class FleetChaos: Sendable {
  private struct Counts {
    var killed: [Member.Role: Int] = [:]
    var ended: [Member.Role: Int] = [:]
    var failures: [String] = []
  }
  private let fleet: Fleet
  private let published: Published
  private let counts = Mutex(Counts())
  private let log: SoakLog

  init(_ fleet: Fleet, _ published: Published, log: SoakLog) {
    self.fleet = fleet
    self.published = published
    self.log = log
  }

  var failures: [String] { counts.withLock { $0.failures } }

  var summary: String {
    counts.withLock { counts in
      [Member.Role.grape, .worker, .publisher].map { role in
        "\(role)s: \(counts.killed[role] ?? 0) killed, \(counts.ended[role] ?? 0) ended in order"
      }.joined(separator: "; ")
    }
  }

  func run(until end: ContinuousClock.Instant) async throws {
    while ContinuousClock.now < end - .seconds(6) {
      let role = [Member.Role.grape, .worker, .worker, .publisher].randomElement() ?? .worker
      let index = Int.random(in: 1..<fleet.count(role))
      guard let member = fleet.member(role, index) else { return }
      if Bool.random() {
        log("kill \(role) \(index) at \(member.port)")
        if role == .publisher { published.noteKill(at: member.port) }
        await member.kill()
        counts.withLock { $0.killed[role, default: 0] += 1 }
      } else {
        log("end \(role) \(index) at \(member.port)")
        let ending = await member.terminate()
        counts.withLock { counts in
          counts.ended[role, default: 0] += 1
          if let fault = ending.fault { counts.failures.append("a \(role) \(fault)") }
        }
      }
      try await Task.sleep(for: .milliseconds(Int.random(in: 100...1_500)))
      // A grape is known by its address; the others are found again wherever they are.
      log("start \(role) \(index)")
      try await fleet.replace(role, index, samePort: role == .grape || Bool.random())
      log("\(role) \(index) is ready at \(fleet.member(role, index)?.port ?? 0)")
      try await Task.sleep(for: .milliseconds(Int.random(in: 1_000...3_000)))
    }
  }
}

/// What members that are never killed hold as time goes by, and this process.
final class LeakWatch: Sendable {
  private struct Window {
    var resident: [Int] = []
    var descriptors: [Int] = []

    /// Whether it was there each time.
    var isWhole: Bool { !resident.isEmpty && !resident.contains(0) }
  }
  private static let roles: [Member.Role?] = [nil, .grape, .worker, .publisher]
  private let fleet: Fleet
  private let windows = Mutex<[[Window]]>(
    [[Window]](repeating: [Window(), Window()], count: roles.count))

  init(_ fleet: Fleet) { self.fleet = fleet }

  /// Looks between three and four tenths of the time, and in the last tenth.
  func run(from start: ContinuousClock.Instant, until end: ContinuousClock.Instant) async throws {
    while ContinuousClock.now < end {
      try await Task.sleep(for: .milliseconds(250))
      let part = (ContinuousClock.now - start) / (end - start)
      guard part > 0.9 || (0.3...0.4).contains(part) else { continue }
      for (index, role) in Self.roles.enumerated() {
        let usage = role.map { fleet.member($0, 0)?.usage ?? ProcessUsage() } ?? ProcessUsage()
        windows.withLock { windows in
          windows[index][part > 0.9 ? 1 : 0].resident.append(usage.residentBytes)
          windows[index][part > 0.9 ? 1 : 0].descriptors.append(usage.descriptors)
        }
      }
    }
  }

  /// Prints it; whether nothing has grown by 5 % (or 2 MiB, of small processes).
  func report() -> Bool {
    windows.withLock { windows in
      var isGood = true
      for (role, window) in zip(Self.roles, windows) {
        let (early, late) = (window[0].resident.min() ?? 0, window[1].resident.min() ?? 0)
        let descriptors = (window[0].descriptors.min() ?? 0, window[1].descriptors.min() ?? 0)
        print(
          String(
            format: "%@: %.1f MiB resident, later %.1f (%+.1f %%); descriptors %d, later %d",
            role?.rawValue ?? "callers and subscribers", Double(early) / 1_048_576,
            Double(late) / 1_048_576, Double(late - early) / Double(max(early, 1)) * 100,
            descriptors.0, descriptors.1))
        if !window.allSatisfy(\.isWhole) {
          print("  it was not there all the time")
          isGood = false
        }
        // Who is connected to them changes with who has been restarted.
        isGood =
          isGood && late - early <= max(early / 20, 2 << 20)
          && descriptors.1 <= descriptors.0 + 8
      }
      return isGood
    }
  }
}

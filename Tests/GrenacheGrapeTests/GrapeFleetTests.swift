import Foundation
import GrenacheIO
import GrenacheTLS
import TestSupport
import Testing

/// Grapes, each a process, of which some are out while others are asked.
private actor GrapeFleet {
  struct Member: Sendable {
    let process: GrapeCommandProcess
    let client: KeptClient
    let state: String
  }
  private var members: [Member?]
  private var users: [Int]
  private var waiting: [Int: CheckedContinuation<Void, Never>] = [:]
  private var turn = 0
  private(set) var isOver = false

  init(_ members: [Member]) {
    self.members = members
    users = members.map { _ in 0 }
  }

  var all: [Member] { members.compactMap(\.self) }

  /// The next one that is in, which is not killed until it is given back.
  private func take() -> (number: Int, client: KeptClient) {
    while true {
      turn = (turn + 1) % members.count
      guard let member = members[turn] else { continue }
      users[turn] += 1
      return (turn, member.client)
    }
  }

  private func giveBack(_ number: Int) {
    users[number] -= 1
    if users[number] == 0 { waiting.removeValue(forKey: number)?.resume() }
  }

  /// Asks the next one that is in; gives who that was as well.
  func ask(_ body: String, _ path: String) async throws -> (body: String, number: Int) {
    let (number, client) = take()
    defer { giveBack(number) }
    return (try await client.post(body, path).body, number)
  }

  /// Takes one out, once nobody waits for its answer.
  func takeOut(_ number: Int) async -> Member? {
    let member = members[number]
    members[number] = nil
    if users[number] > 0 { await withCheckedContinuation { waiting[number] = $0 } }
    return member
  }

  func putBack(_ member: Member, _ number: Int) { members[number] = member }

  /// Nobody asks any more.
  func end() { isOver = true }
}

@Suite("P31 Many grapes, each a process of its own, over real sockets", .timeLimit(.minutes(5)))
struct GrapeFleetTests {
  static let count = 22
  static let services = 6

  let authority: TestAuthority
  let worker: TLSConfiguration
  let folder: TemporaryFolder

  init() throws {
    authority = try TestAuthority()
    worker = try authority.worker("svc:*")
    folder = try TemporaryFolder()
    try authority.authority.write(
      .init(commonName: "host", dnsNames: ["localhost"], ipAddresses: ["127.0.0.1"]),
      toDirectory: "\(folder.path)/tls")
  }

  private func start(
    _ state: String, bootstrap: String, as before: GrapeCommandProcess? = nil
  ) async throws -> GrapeFleet.Member {
    let process = try await GrapeCommandProcess.start(
      certificates: "\(folder.path)/tls", state: state, apiPort: before?.api.port ?? 0,
      dhtPort: before?.dht.port ?? 0, bootstrap: bootstrap)
    return .init(
      process: process, client: try await KeptClient(worker, process.api), state: state)
  }

  private func waitUntilReady(_ member: GrapeFleet.Member) async throws {
    try await eventually { try await member.client.post("", "/healthz/ready").status == 200 }
  }

  /// Grapes that know each other, the first two from the beginning.
  private func fleet() async throws -> (GrapeFleet, bootstrap: String) {
    var members = [try await start("\(folder.path)/0", bootstrap: "")]
    members.append(try await start("\(folder.path)/1", bootstrap: "\(members[0].process.dht)"))
    let bootstrap = members.map { "\($0.process.dht)" }.joined(separator: ",")
    for number in 2..<Self.count {
      members.append(try await start("\(folder.path)/\(number)", bootstrap: bootstrap))
    }
    for member in members { try await waitUntilReady(member) }
    return (GrapeFleet(members), bootstrap)
  }

  private func announcement(_ number: Int) -> String {
    "{\"data\":[\"svc:\(number)\",\(number + 1)]}"
  }
  private func lookup(_ number: Int) -> String { "{\"data\":\"svc:\(number)\"}" }
  private func answer(_ number: Int) -> String { "[\"127.0.0.1:\(number + 1)\"]" }

  /// What lookups through those that are in have come to.
  private struct Tally: Sendable {
    var asked = 0
    var wrong: [String] = []

    static func += (left: inout Tally, right: Tally) {
      left.asked += right.asked
      left.wrong += right.wrong
    }
  }

  /// Looks services up, one after the other, and announces them anew now and then, to the end.
  private func useServices(_ fleet: GrapeFleet, from first: Int) async -> Tally {
    var tally = Tally()
    while await !fleet.isOver {
      let number = (first + tally.asked) % Self.services
      do {
        if tally.asked % 50 == 0 { try await announce(number, fleet) }
        let found = try await fleet.ask(lookup(number), "/lookup")
        if found.body != answer(number) { tally.wrong.append("\(number): \(found)") }
      } catch {
        tally.wrong.append("\(number): \(error)")
      }
      tally.asked += 1
    }
    return tally
  }

  private func announce(_ number: Int, _ fleet: GrapeFleet) async throws {
    let stored = try await fleet.ask(announcement(number), "/announce")
    #expect(Int(stored.body) ?? 0 > 0, "\(stored)")
  }

  /// Kills every one in turn and starts it again with its ports and its memory.
  private func killAndRestart(_ fleet: GrapeFleet, bootstrap: String) async throws {
    for number in 0..<Self.count {
      let victim = try #require(await fleet.takeOut(number))
      victim.process.kill()
      let again = try await start(victim.state, bootstrap: bootstrap, as: victim.process)
      #expect(again.process.api == victim.process.api && again.process.dht == victim.process.dht)
      try await waitUntilReady(again)
      await fleet.putBack(again, number)
    }
  }

  @Test("22 grapes are killed and started again in turn: no lookup through the others fails")
  func killedInTurn() async throws {
    let (fleet, bootstrap) = try await fleet()
    for number in 0..<Self.services { try await announce(number, fleet) }
    let tally = try await withThrowingTaskGroup(of: Tally.self) { group in
      for first in 0..<2 { group.addTask { await useServices(fleet, from: first) } }
      do {
        try await killAndRestart(fleet, bootstrap: bootstrap)
      } catch {
        await fleet.end()
        throw error
      }
      await fleet.end()
      return try await group.reduce(into: Tally()) { $0 += $1 }
    }
    #expect(tally.wrong.isEmpty && tally.asked > Self.count, "of \(tally.asked): \(tally.wrong)")
    // All know it, and those who are left when some go for good still do.
    for round in 0..<2 {
      for member in await fleet.all {
        for number in 0..<Self.services {
          let found = try await member.client.post(lookup(number), "/lookup").body
          #expect(found == answer(number), "round \(round)")
        }
      }
      for number in stride(from: 0, to: Self.count, by: 3) {
        await fleet.takeOut(number)?.process.kill()
      }
    }
  }
}

import GrenacheAccess
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@testable import GrenacheDHT
@testable import GrenacheGrape

private func key(_ number: Int) -> [UInt8] { Array("key \(number)".utf8) }

private func caller(_ number: UInt32) -> GrapeCaller { .address(DHTHost(ip: 0x0a00_0000 + number)) }

/// A schedule whose lookups end at once, in virtual time.
private struct SimulatedWatches {
  var schedule = WatchSchedule()
  var now = MonotonicTime(nanoseconds: 1_000_000_000_000)
  var outcome: ([UInt8]) -> WatchSchedule.Outcome = { _ in .nobody }
  private(set) var starts: [[UInt8]: [MonotonicTime]] = [:]

  var count: Int { starts.values.reduce(0) { $0 + $1.count } }

  mutating func run(for time: Duration) {
    let end = now + time
    while now < end {
      for key in schedule.start(at: now) {
        starts[key, default: []].append(now)
        schedule.ended(key, outcome(key))
      }
      now = now + WatchSchedule.tick
    }
  }

  mutating func forget() { starts = [:] }

  /// The longest time between two lookups of a key.
  func longestPause(_ key: [UInt8]) -> Duration {
    let times = starts[key] ?? []
    return zip(times, times.dropFirst()).map { $1 - $0 }.max() ?? .seconds(1_000)
  }
}

@Suite("When watched keys are looked up")
struct WatchScheduleTests {
  @Test("1,000 keys are looked up in turn, never more than 64 at once, and none is forgotten")
  func turns() {
    var schedule = WatchSchedule()
    for number in 0..<1_000 { schedule.add(key(number), for: caller(UInt32(number % 7))) }
    var now = MonotonicTime.now()
    var seen: [[UInt8]: Int] = [:]
    for _ in 0..<110 {
      let started = schedule.start(at: now)
      #expect(started.count <= 64 && schedule.lookupsUnderWay <= 64)
      for one in started {
        seen[one, default: 0] += 1
        schedule.ended(one, .found)
      }
      now = now + WatchSchedule.tick
    }
    #expect(seen.count == 1_000)
    #expect((seen.values.max() ?? 99) - (seen.values.min() ?? 0) <= 1)
  }

  @Test("64 lookups under way at once, and not one more")
  func underWay() {
    var schedule = WatchSchedule()
    for number in 0..<100 { schedule.add(key(number), for: caller(1)) }
    let now = MonotonicTime.now()
    let started = schedule.start(at: now)
    #expect(started.count == 64)
    #expect(schedule.start(at: now + .seconds(10)).isEmpty)
    schedule.ended(started[0], .nobody)
    #expect(schedule.start(at: now + .seconds(10)).count == 1)
  }

  @Test("a key that changes all the time is looked up four times a second")
  func toggled() {
    var schedule = WatchSchedule()
    schedule.add(key(1), for: caller(1))
    let start = MonotonicTime.now()
    var count = 0
    for step in 0..<1_000 {
      schedule.changed(key(1))
      for one in schedule.start(at: start + .milliseconds(step)) {
        count += 1
        schedule.ended(one, .found)
      }
    }
    #expect(count == 4)
    var quiet = WatchSchedule()
    quiet.add(key(1), for: caller(1))
    #expect(quiet.start(at: start).count == 1)
    quiet.changed(key(1))
    #expect(quiet.start(at: start + .seconds(1)).isEmpty, "one at a time")
    quiet.ended(key(1), .found)
    #expect(quiet.start(at: start + .seconds(1)) == [key(1)])
    quiet.remove(key(1))
    quiet.ended(key(1), .found)
    #expect(quiet.isEmpty && quiet.lookupsUnderWay == 0)
  }

  @Test("P30 an idle watcher of 250 keys that nobody announces costs 32 lookups a second, not 500")
  func idle() {
    var watches = SimulatedWatches()
    for number in 0..<250 { watches.schedule.add(key(number), for: caller(1)) }
    watches.run(for: .seconds(20))
    watches.forget()
    watches.run(for: .seconds(80))
    #expect(watches.count <= 32 * 80 && watches.count >= 30 * 80)
  }

  @Test("P30 whatever is watched: no more than 200 lookups a second")
  func budget() {
    var watches = SimulatedWatches()
    watches.outcome = { _ in .uncertain }
    for number in 0..<1_000 { watches.schedule.add(key(number), for: caller(UInt32(number % 4))) }
    watches.run(for: .seconds(10))
    #expect(watches.count <= 64 + 10 * WatchSchedule.lookupsPerSecond)
    #expect(watches.count >= 10 * WatchSchedule.lookupsPerSecond - 100)
  }

  @Test("P27 of 250 keys in use each is looked up within 1.3 s, and 0.3 s after a first miss")
  func inUse() {
    var watches = SimulatedWatches()
    watches.outcome = { _ in .found }
    for number in 0..<250 { watches.schedule.add(key(number), for: caller(1)) }
    watches.run(for: .seconds(20))
    for number in 0..<250 {
      #expect(watches.longestPause(key(number)) <= .milliseconds(1_300))
    }
    var missing = SimulatedWatches()
    missing.outcome = { _ in .uncertain }
    missing.schedule.add(key(1), for: caller(1))
    missing.run(for: .seconds(5))
    #expect(missing.longestPause(key(1)) <= .milliseconds(300))
  }

  @Test("P27 who watches one key does not wait for those who watch as much as they can")
  func fair() {
    var watches = SimulatedWatches()
    let own = key(9_999)
    watches.outcome = { $0 == own ? .found : .uncertain }
    for number in 0..<750 { watches.schedule.add(key(number), for: caller(UInt32(number % 3))) }
    watches.schedule.add(own, for: caller(7))
    // One of the greedy ones watches it as well: it stays in the share of him who has few.
    watches.schedule.add(own, for: caller(0))
    watches.run(for: .seconds(20))
    #expect(watches.longestPause(own) <= .milliseconds(1_300))
    watches.schedule.remove(own, others: [caller(0)])
    watches.forget()
    watches.run(for: .seconds(20))
    #expect(watches.longestPause(own) > .milliseconds(1_300), "in the share of who is left")
  }

  @Test("what changes comes first, among the keys of him who watches it")
  func changedFirst() {
    var watches = SimulatedWatches()
    watches.outcome = { _ in .uncertain }
    for number in 0..<1_000 { watches.schedule.add(key(number), for: caller(1)) }
    watches.run(for: .seconds(20))
    watches.forget()
    watches.schedule.changed(key(500))
    watches.run(for: .milliseconds(350))
    #expect(watches.starts[key(500)] != nil)
  }
}

@Suite("Which peers of a watched key are gone")
struct WatchedPeersTests {
  /// The peers of one key.
  private final class Watched {
    private var peers: WatchedPeers

    init(stored: Set<FoundPeer> = []) { peers = WatchedPeers(stored: stored) }

    var told: Set<FoundPeer>? { peers.told }
    var isUncertain: Bool { peers.isUncertain }

    func storeChanged(_ now: Set<FoundPeer>) { peers.storeChanged(now) }

    @discardableResult
    func found(_ found: Set<FoundPeer>, isIncomplete: Bool = false) -> Bool {
      peers.found(found.sorted(), isIncomplete: isIncomplete)
    }
  }

  private func peers(_ ports: some Sequence<Int>) -> Set<FoundPeer> {
    Set(ports.map { .elsewhere(DHTAddress(ip: 0x0a00_0001, port: UInt16($0))) })
  }

  @Test("two lookups in a row that miss it, and not one; what is incomplete says nothing")
  func missed() {
    let state = Watched()
    #expect(!state.found([], isIncomplete: true), "nothing is known yet")
    #expect(state.found(peers([1, 2, 3])))
    #expect(!state.found(peers([1, 2, 3])) && !state.isUncertain)
    #expect(!state.found(peers([1, 2])) && state.isUncertain)
    #expect(!state.found([], isIncomplete: true))
    #expect(!state.found(peers([1, 2, 3])) && !state.isUncertain)
    #expect(!state.found(peers([1, 2])))
    #expect(!state.found([], isIncomplete: true) && state.isUncertain, "the miss is remembered")
    #expect(state.found(peers([1, 2])))
    #expect(state.told == peers([1, 2]) && !state.isUncertain)
  }

  @Test("that nobody is there is news once")
  func nobody() {
    let state = Watched()
    #expect(state.found([]) && state.told == [])
    #expect(!state.found([]))
    #expect(state.found(peers([1]), isIncomplete: true))
  }

  @Test("what this grape has dropped is gone at once unless others name it; others stay")
  func dropped() {
    let state = Watched(stored: peers([1, 2]))
    state.found(peers(1...5))
    state.storeChanged(peers([2]))
    #expect(state.isUncertain)
    // One local change, and a lookup that has missed 4 and 5 as well.
    #expect(state.found(peers([2, 3])))
    #expect(state.told == peers([2, 3, 4, 5]))
    // Others have not heard of it yet: the next lookup that misses it will do.
    state.storeChanged([])
    state.found(peers(2...5))
    #expect(state.told == peers(2...5) && state.isUncertain)
    #expect(state.found(peers(3...5)) && state.told == peers(3...5))
    // And who is still named after a while has not gone.
    let other = Watched(stored: peers([1]))
    other.found(peers([1]))
    other.storeChanged([])
    for _ in 0..<4 { #expect(!other.found(peers([1]))) }
    #expect(!other.isUncertain && !other.found([]))
  }

  @Test(
    "of 300 peers, of which each lookup names 200 by chance, none ever seems gone; one that is, is")
  func manyPeers() {
    var generator = SeededGenerator(seed: 11)
    let state = Watched()
    let all = Array(1...300)
    state.found(peers(all))
    for _ in 0..<2_000 {
      let some = all.shuffled(using: &generator).prefix(200)
      state.found(peers(some))
      #expect(!state.isUncertain, "many are always missed: that is no reason for haste")
    }
    // By chance 0.02 % of those who are missed for long seem gone, until they are named again.
    #expect((state.told?.count ?? 0) >= 298)
    var lookups = 0
    while state.told?.isSuperset(of: peers([300])) == true, lookups < 100 {
      state.found(peers(all.dropLast().shuffled(using: &generator).prefix(200)))
      lookups += 1
    }
    #expect(lookups < 12)
  }

  @Test(
    "P30 whom one node names anew each time is not told for ever, nor who has gone meanwhile",
    arguments: [10, 100])
  func freshPeers(_ fresh: Int) {
    let state = Watched()
    let honest = peers(1...25)
    var next = 100
    func look(_ honest: Set<FoundPeer>) {
      state.found(honest.union(peers(next..<(next + fresh))))
      next += fresh
    }
    for _ in 0..<100 { look(honest) }
    #expect(state.told?.isSuperset(of: honest) == true)
    let most = min(PeersFound.peersMax, 25 + fresh * WatchedPeers.missesMax)
    #expect(state.told?.count == most)
    for _ in 0..<WatchedPeers.missesMax { look(honest.subtracting(peers([7]))) }
    #expect(state.told?.isDisjoint(with: peers([7])) == true)
  }

  @Test("a thousand are told, and not one more: whoever was missed longest goes first")
  func most() {
    let state = Watched()
    state.found(peers(1...500))
    state.found(peers(501...1_000))
    #expect(state.told == peers(1...1_000))
    state.found(peers(1_001...1_001).union(peers(1...499)))
    #expect(state.told?.count == PeersFound.peersMax)
    #expect(state.told == peers(1...1_001).subtracting(peers([500])))
    state.found(peers(2_001...3_001), isIncomplete: true)
    #expect(state.told == peers(2_001...3_000))
  }

  @Test("P29 they are told as the last lookup gave them, and behind those the ones that it missed")
  func order() {
    func list(_ ports: [Int]) -> [FoundPeer] { ports.flatMap { peers([$0]) } }
    var state = WatchedPeers(stored: [])
    _ = state.foundFirst(list([9, 1]))
    #expect(state.inOrder == list([9, 1]))
    _ = state.found(list([5, 9, 2, 1]), isIncomplete: false)
    #expect(state.inOrder == list([5, 9, 2, 1]))
    let isNews = state.found(list([2, 9]), isIncomplete: false)
    #expect(!isNews && state.inOrder == list([2, 9, 5, 1]))
    _ = state.found(list([7, 1]), isIncomplete: true)
    #expect(state.inOrder == list([7, 1, 2, 9, 5]))
    _ = state.found(list([1]), isIncomplete: false)
    #expect(state.inOrder == list([1, 7, 2, 9]))
  }
}

@Suite("Watching a grape's services", .timeLimit(.minutes(2)))
struct WatchTests {
  @Test("P26 who may not look up any more is told no more")
  func policy() async throws {
    let authority = try TestAuthority()
    let client = try authority.worker("svc")
    let access = AccessControl(.byCertificate)
    try await withGrape(tls: try authority.host(), configure: { $0.access = access }) { grape in
      let watcher = try await Watcher.open(grape.api, as: client)
      try await watcher.send("{\"data\":\"svc\"}")
      #expect(try await watcher.next() == "{\"key\":\"svc\",\"peers\":[]}")
      access.policy = AccessPolicy([
        .init("some", allow: [.announce], on: .patterns(["svc"]), to: [.anyone])
      ])
      _ = try await post("{\"data\":[\"svc\",1]}", "/announce", to: grape.api, as: client)
      #expect(try await watcher.next() == "{\"error\":\"ERR_GRAPE_NOT_PERMITTED\"}")
      await watcher.close()
    }
  }

  @Test("what one lookup misses, and its copy in memory with it, is not gone")
  func missedOnce() async throws {
    let authority = try TestAuthority()
    let client = try authority.worker("svc")
    let (one, two) = (ScriptedPair.first, ScriptedPair.second)
    let answers = Mutex(0)
    // The third answer leaves one of them out.
    let node = try await ScriptedNode.start { asked in
      guard asked == Array("svc".utf8) else { return [] }
      let number = answers.withLock { count in
        count += 1
        return count
      }
      return number == 3 ? [one] : [one, two]
    }
    let bootstrap = [Endpoint(SocketAddress(node.address))]
    try await withGrape(tls: try authority.host(), bootstrap: bootstrap) { grape in
      try await waitUntilReady(grape, as: client)
      let watcher = try await Watcher.open(grape.api, as: client)
      try await watcher.send("{\"data\":\"svc\"}")
      let both = "\"127.0.0.1:11\",\"127.0.0.1:22\""
      #expect(try await watcher.next() == "{\"key\":\"svc\",\"peers\":[\(both)]}")
      try await eventually { await node.asked() >= 5 }
      _ = try await post("{\"data\":[\"svc\",33]}", "/announce", to: grape.api, as: client)
      #expect(
        try await watcher.next() == "{\"key\":\"svc\",\"peers\":[\"127.0.0.1:33\",\(both)]}")
      await watcher.close()
    }
    await node.stop()
  }

  @Test("P29 of a hundred peers that one node has invented and one that is, he is told early")
  func invented() async throws {
    let authority = try TestAuthority()
    let client = try authority.worker("svc")
    let hostile = try await ScriptedNode.start { asked in
      guard asked == Array("svc".utf8) else { return [] }
      return (1...100).map { DHTAddress(ip: 0x0100_0001, port: $0) }
    }
    let real = DHTAddress(ip: 0x0909_0909, port: 9)
    let honest = try await ScriptedNode.start { $0 == Array("svc".utf8) ? [real] : [] }
    let bootstrap = [hostile, honest].map { Endpoint(SocketAddress($0.address)) }
    try await withGrape(tls: try authority.host(), bootstrap: bootstrap) { grape in
      let kept = try await KeptClient(client, grape.api)
      try await eventually { try await kept.status("contacts") == 2 }
      let watcher = try await Watcher.open(grape.api, as: client)
      try await watcher.send("{\"data\":\"svc\"}")
      var told: [Substring] = []
      while told.count < 102 { told = try await watcher.next().split(separator: ",") }
      #expect(told.count == 102, "the key, and 101 peers")
      #expect(told.prefix(3).contains { $0.contains("\"9.9.9.9:9\"") })
      await watcher.close()
    }
    await hostile.stop()
    await honest.stop()
  }

  @Test("P27 of a grape that does not store it: each lookup is made anew, and what is gone is told")
  func readOnly() async throws {
    let authority = try TestAuthority()
    let client = try authority.worker("svc")
    let host = try authority.host()
    let named = try authority.authority.configuration(
      for: .init(commonName: "w", ipAddresses: ["10.9.8.7"], services: ["svc"]))
    try await withGrape(tls: host) { first in
      let bootstrap = [Endpoint(first.dht)]
      try await withGrape(tls: host, bootstrap: bootstrap, configure: { $0.isReadOnly = true }) {
        second in
        try await waitUntilReady(second, as: client)
        // Kept by the first alone.
        let there = "{\"data\":[\"svc\",7,\"10.9.8.7\"]}"
        _ = try await post(there, "/announce", to: first.api, as: named)
        let watcher = try await Watcher.open(second.api, as: client)
        try await watcher.send("{\"data\":\"svc\"}")
        #expect(try await watcher.next() == "{\"key\":\"svc\",\"peers\":[\"10.9.8.7:7\"]}")
        _ = try await post(there, "/withdraw", to: first.api, as: named)
        #expect(try await watcher.next() == "{\"key\":\"svc\",\"peers\":[]}")
        await watcher.close()
      }
    }
  }
}

@Suite("What lookups have found is given again for a moment")
struct LookupAnswersTests {
  private func lookup(_ peers: [FoundPeer], isCached: Bool = false) -> GrapeLookup {
    var result = DHTLookupResult(peers: [], hops: 0, nodes: [])
    result.isCached = isCached
    return GrapeLookup(result: result, peers: FoundPeers(peers, PublicHosts()))
  }

  @Test("a key's changes do not keep the lookups of others from being remembered")
  func counters() {
    let answers = LookupAnswers()
    let found = lookup([.here(port: 1)])
    var kept = 0
    for number in 0..<100 {
      let (_, changes) = answers.peers(of: key(number))
      answers.change(Array("other".utf8))
      answers.keep(found, of: key(number), since: changes)
      if answers.peers(of: key(number)).peers == found.peers { kept += 1 }
    }
    #expect(kept >= 90)
    let (_, changes) = answers.peers(of: key(0))
    answers.change(key(0))
    answers.keep(found, of: key(0), since: changes)
    #expect(answers.peers(of: key(0)).peers == nil)
  }

  @Test("what the node remembered itself, or what is not all, is not kept for another second")
  func cached() {
    let answers = LookupAnswers()
    let (_, changes) = answers.peers(of: key(0))
    answers.keep(lookup([.here(port: 1)], isCached: true), of: key(0), since: changes)
    #expect(answers.peers(of: key(0)).peers == nil)
    var part = lookup([.here(port: 1)])
    part.result.isIncomplete = true
    answers.keep(part, of: key(0), since: changes)
    #expect(answers.peers(of: key(0)).peers == nil)
    answers.keep(lookup([.here(port: 1)]), of: key(0), since: changes)
    #expect(answers.peers(of: key(0)).peers != nil)
  }

  @Test("of a thousand peers a hundred are kept; all keys together take 16 MiB at most")
  func bytes() {
    let many = (1...1_000).map { FoundPeer.elsewhere(DHTAddress(ip: 0x0a00_0001, port: $0)) }
    let found = lookup(many)
    #expect(found.peers.isPart && found.peers.addresses(.loopback).count == 100)
    let answers = LookupAnswers()
    for number in 0..<6_000 {
      let (_, changes) = answers.peers(of: key(number))
      answers.keep(found, of: key(number), since: changes)
      #expect(answers.bytes <= LookupAnswers.bytesMax)
    }
    #expect(answers.bytes > LookupAnswers.bytesMax / 2)
    for number in 0..<6_000 { answers.change(key(number)) }
    #expect(answers.bytes == 0)
  }
}

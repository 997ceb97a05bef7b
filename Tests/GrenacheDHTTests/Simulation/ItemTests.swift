import DHTSimulation
import TestSupport
import Testing

@testable import GrenacheDHT

@Suite("BEP 44: values")
struct ItemTests {
  private func immutable(_ text: String) -> DHTItem {
    DHTItem(value: Bencode(text).encoded)
  }

  @Test("an immutable value is found by its hash, everywhere")
  func immutable() {
    var network = network(30, seed: 1)
    let item = immutable("hello world")
    #expect(network.outcome(of: network.put(item, at: 3)) == .stored(20))
    for seeker in [0, 3, 17, 29] {
      #expect(network.item(item.target(.simulated), at: seeker)?.item == item)
    }
    #expect(network.item(immutable("other").target(.simulated), at: 9) == nil)
  }

  @Test("of a mutable value the newest counts; salt and key tell them apart")
  func mutable() {
    var network = network(30, seed: 2)
    let first = DHTItem.simulated("one", key: 1, sequence: 1)
    let second = DHTItem.simulated("two", key: 1, sequence: 2)
    let salted = DHTItem.simulated("three", key: 1, salt: [9], sequence: 1)
    let target = first.target(.simulated)
    #expect(network.outcome(of: network.put(first, at: 3)) == .stored(20))
    #expect(network.outcome(of: network.put(salted, at: 3)) == .stored(20))
    #expect(network.item(target, at: 20)?.item == first)
    #expect(network.outcome(of: network.put(second, at: 4)) == .stored(20))
    for seeker in [0, 3, 4, 20] { #expect(network.item(target, at: seeker)?.item == second) }
    let saltedTarget = salted.target(.simulated)
    #expect(network.item(saltedTarget, salt: [9], at: 8)?.item == salted)
    let elsewhere = (0..<30).first { network.node($0)?.items[saltedTarget] == nil }
    #expect(elsewhere != nil)
    for seeker in [elsewhere].compactMap(\.self) {
      #expect(network.item(saltedTarget, at: seeker) == nil, "the signature covers the salt")
      #expect(network.item(saltedTarget, salt: [9], at: seeker)?.item == salted)
    }
  }

  @Test("302 for what is not newer, 301 for what is not expected; the own store does not lie then")
  func refused() {
    var network = network(10, seed: 3)
    let second = DHTItem.simulated("two", key: 1, sequence: 2)
    let third = DHTItem.simulated("three", key: 1, sequence: 3)
    #expect(network.outcome(of: network.put(second, at: 3)) == .stored(9))
    for at in [3, 5] {
      for sequence in [1, 2] {
        let old = DHTItem.simulated("old", key: 1, sequence: Int64(sequence))
        #expect(
          network.outcome(of: network.put(old, at: at))
            == .refused(KRPCErrorCode(code: 302, message: "sequence number less than current")))
      }
    }
    #expect(
      network.outcome(of: network.put(third, compareAndSwap: 1, at: 5))
        == .refused(KRPCErrorCode(code: 301, message: "CAS mismatch, re-read and try again")))
    #expect(network.item(second.target(.simulated), at: 5)?.item == second)
    #expect(network.outcome(of: network.put(third, compareAndSwap: 2, at: 5)) == .stored(9))
  }

  @Test("what is put and refused makes room for what was found, or has come meanwhile")
  func refusedLate() throws {
    for comesLater in [true, false] {
      var network = network(8, seed: 7)
      let fourth = DHTItem.simulated("four", key: 1, sequence: 4)
      let fifth = DHTItem.simulated("five", key: 1, sequence: 5)
      let seventh = DHTItem.simulated("seven", key: 1, sequence: 7)
      let target = fourth.target(.simulated)
      _ = network.outcome(of: network.put(fifth, at: 1))
      // Node 8 knows nothing of it.
      network.start(8, bootstrap: [0])
      network.run(for: .seconds(3))
      let request = network.put(fourth, at: 8)
      let query = KRPCQuery.put(
        seventh, compareAndSwap: nil,
        token: try #require(network.node(8)).tokens.token(for: SimulatedNetwork.address(2).host))
      if comesLater {
        network.inject(
          query.encoded(transaction: [1], from: NodeID(prefixOf: [1])),
          from: SimulatedNetwork.address(2), to: 8)
      }
      guard case .refused = network.outcome(of: request) else {
        Issue.record("not refused")
        continue
      }
      #expect(network.node(8)?.items[target]?.item == (comesLater ? seventh : fifth))
      #expect(network.node(8)?.items[target]?.republishAt == nil || comesLater)
    }
  }

  @Test("who does not want to know what this node keeps is not told by another's lookup")
  func ownStore() throws {
    var network = network(8, seed: 8)
    let item = DHTItem.simulated("kept", key: 1, sequence: 1)
    let target = item.target(.simulated)
    let now = network.now
    network.nodes[3].change { node in
      _ = try? node.items.insert(item, at: target, owner: nil, compareAndSwap: nil, now: now)
    }
    let started = [true, false, true].map {
      network.get(target, usesOwnStore: $0, at: 3)
    }
    let (own, others, again) = (
      try #require(started[0]), try #require(started[1]), try #require(started[2])
    )
    network.run(for: .seconds(3))
    #expect(network.getResult(own)?.item == item && network.getResult(again)?.item == item)
    #expect(network.hasGetEnded(others) && network.getResult(others) == nil)
    // Something newer elsewhere is told to all.
    let newer = DHTItem.simulated("newer", key: 1, sequence: 2)
    _ = network.outcome(of: network.put(newer, at: 5))
    network.nodes[3].change { node in
      node.items.remove(target)
      _ = try? node.items.insert(item, at: target, owner: nil, compareAndSwap: nil, now: now)
    }
    #expect(network.item(target, at: 3)?.item == newer)
  }

  @Test("a value outlives its age while the node lives that put it, and goes with it")
  func republishing() {
    var network = network(8, seed: 4) {
      $0.itemAgeMax = .seconds(7_200)
      $0.checksNodeIDs = true
    }
    let item = immutable("kept")
    _ = network.outcome(of: network.put(item, at: 3))
    network.run(for: .seconds(10_000))
    #expect(network.item(item.target(.simulated), at: 6)?.item == item)
    network.stop(3)
    network.run(for: .seconds(7_300))
    #expect(network.item(item.target(.simulated), at: 6) == nil)
  }

  @Test("a node that was killed puts its values again as soon as it knows somebody")
  func republishedSoon() {
    var network = network(8, seed: 9)
    let items = (0..<20).map { immutable("kept \($0)") }
    for item in items { _ = network.outcome(of: network.put(item, at: 3)) }
    for number in 0..<8 { network.stop(number) }
    for number in 0..<8 {
      network.start(number, bootstrap: [0, 1].filter { $0 != number }, keepsMemory: number == 3)
    }
    network.run(for: .seconds(20))
    func known() -> Int {
      items.count { network.node(6)?.items[$0.target(.simulated)] != nil }
    }
    #expect((1...8).contains(known()), "a few at a time")
    network.run(for: .seconds(45))
    #expect(known() == 20)
  }

  @Test("a node alone keeps what is put, and says that nobody else does")
  func alone() {
    var network = SimulatedNetwork(seed: 5)
    network.start(0, bootstrap: [])
    let item = immutable("mine")
    #expect(network.outcome(of: network.put(item, at: 0)) == .noNodes)
    #expect(network.item(item.target(.simulated), at: 0)?.token == nil)
    #expect(network.item(item.target(.simulated), at: 0)?.item == item)
  }

  @Test(
    "the limit of a value: 1,000 bytes of a string, or encoded", arguments: [999, 1_000, 1_001])
  func limit(_ count: Int) {
    let text = DHTItem(value: Bencode(String(repeating: "x", count: count)).encoded)
    #expect(text.valueBytes == count)
    let list = DHTItem(value: Bencode.list([.bytes([UInt8](repeating: 1, count: count))]).encoded)
    #expect(list.valueBytes == list.value.count)
  }

  @Test("what makes room, or expires, or is superseded elsewhere, is told")
  func removed() {
    var generator = SeededGenerator(seed: 6)
    var configuration = DHTConfiguration()
    configuration.itemsMax = 2
    var node = DHTNode(
      id: .random(using: &generator), configuration: configuration, now: .zero,
      cryptography: .simulated, using: &generator)
    func removed() -> [[UInt8]] {
      var targets: [[UInt8]] = []
      while let action = node.nextAction() {
        if case .itemRemoved(let target) = action { targets.append(target) }
      }
      return targets
    }
    let items = (0..<3).map { immutable("\($0)") }
    let targets = items.map { $0.target(.simulated) }
    for (number, item) in items.enumerated() {
      node.restore(
        DHTNode.KeptItem(
          target: targets[number], item: item, remaining: .seconds(100 + number), isOwn: false),
        now: .zero)
    }
    #expect(removed() == [targets[0]], "the one that would expire first makes room")
    node.timerFired(now: .seconds(101), using: &generator)
    #expect(removed() == [targets[1]], "expired")
    node.timerFired(now: .seconds(200), using: &generator)
    #expect(removed() == [targets[2]] && node.itemCount == 0)
    let forged = DHTNode.KeptItem(
      target: [1], item: items[0], remaining: .seconds(1), isOwn: false)
    node.restore(forged, now: .zero)
    #expect(removed() == [[1]], "what is not what its target says is not kept on")
  }

  @Test("the store: items of an address, all items, the oldest make room")
  func store() throws {
    var configuration = DHTConfiguration()
    configuration.itemsMax = 4
    configuration.itemsPerAddressMax = 2
    var store = ItemStore(configuration)
    func insert(_ number: UInt8, by owner: UInt32?, at seconds: Int) -> KRPCErrorCode? {
      do throws(KRPCErrorCode) {
        _ = try store.insert(
          DHTItem(value: [number]), at: [number], owner: owner.map { DHTHost(ip: $0) },
          compareAndSwap: nil, now: .seconds(seconds))
        return nil
      } catch { return error }
    }
    #expect(insert(1, by: 0x0808_0808, at: 1) == nil)
    #expect(insert(2, by: 0x0808_0808, at: 2) == nil)
    #expect(insert(3, by: 0x0808_0808, at: 3) == .addressLimit)
    #expect(insert(2, by: 0x0808_0808, at: 4) == nil, "again")
    #expect(insert(4, by: 0x7f00_0001, at: 5) == nil)
    #expect(insert(5, by: 0x7f00_0001, at: 6) == nil, "loopback has no limit")
    #expect(insert(6, by: nil, at: 7) == nil)
    #expect(store.count == 4)
    #expect(store[[1]] == nil, "the oldest has made room")
    #expect(insert(7, by: 0x0808_0808, at: 8) == nil, "and is not counted any more")
  }

  @Test("whoever has most values makes room; of IPv6 a /48 counts as one")
  func fairness() throws {
    var configuration = DHTConfiguration()
    configuration.itemsMax = 4
    configuration.itemsPerAddressMax = 3
    var store = ItemStore(configuration)
    func insert(_ number: UInt8, by owner: DHTHost?) -> Bool {
      do throws(KRPCErrorCode) {
        _ = try store.insert(
          DHTItem(value: [number]), at: [number], owner: owner, compareAndSwap: nil,
          now: .seconds(Int(number)))
        return true
      } catch { return false }
    }
    func greedy(_ number: UInt64) -> DHTHost {
      DHTHost(high: 0x2001_0db8_0001_0000 + number, low: number)
    }
    #expect(insert(1, by: DHTHost(ip: 0x0808_0808)))
    for number in 2...4 as ClosedRange<UInt8> {
      #expect(insert(number, by: greedy(UInt64(number))))
    }
    #expect(!insert(5, by: greedy(5)), "the network has its share")
    #expect(insert(6, by: DHTHost(ip: 0x0909_0909)))
    #expect(store[[1]] != nil && store[[2]] == nil, "not the oldest of all")
    #expect(insert(7, by: nil))
    #expect(store[[1]] != nil && store[[3]] == nil)
  }

  @Test("P30 one caller has so many values: one past that, of its own the first to expire goes")
  func callers() throws {
    var configuration = DHTConfiguration()
    configuration.itemsMax = 6
    configuration.itemsPerCallerMax = 2
    var store = ItemStore(configuration)
    func insert(_ number: UInt8, by caller: UInt8?, at seconds: Int) throws -> [[UInt8]] {
      try store.insert(
        DHTItem(value: [number]), at: [number], owner: nil, by: caller.map { DHTCaller([$0]) },
        compareAndSwap: nil, now: .seconds(seconds))
    }
    #expect(try insert(1, by: 1, at: 9) == [])
    #expect(try insert(2, by: 1, at: 2) == [])
    #expect(try insert(3, by: 2, at: 1) == [])
    #expect(try insert(4, by: nil, at: 1) == [])
    #expect(try insert(2, by: 1, at: 3) == [], "again")
    #expect(try insert(3, by: 1, at: 4) == [], "somebody else's")
    #expect(try insert(5, by: 1, at: 5) == [[2]])
    #expect(store.count == 4)
    for number in 6...9 as ClosedRange<UInt8> { _ = try insert(number, by: nil, at: 6) }
    #expect(store.count == 6, "all together")
  }

  /// Puts values of a caller that are kept alive; those that yield.
  private func keepAlive(
    _ targets: ClosedRange<UInt8>, by caller: UInt8?, at seconds: Int, in store: inout ItemStore
  ) throws -> [[UInt8]] {
    try targets.flatMap { number in
      _ = try store.insert(
        DHTItem(value: [number]), at: [number], owner: nil, by: caller.map { DHTCaller([$0]) },
        compareAndSwap: nil, now: .seconds(seconds))
      return store.keepAlive([number], now: .seconds(seconds))
    }
  }

  @Test(
    "P30 of one caller so many values are put again, of all so many: one past it, the oldest yields"
  )
  func keptAliveShares() throws {
    var configuration = DHTConfiguration()
    configuration.ownItemsMax = 6
    configuration.ownItemsPerCallerMax = 3
    var store = ItemStore(configuration)
    #expect(try keepAlive(1...3, by: 1, at: 1, in: &store) == [])
    #expect(try keepAlive(4...4, by: 1, at: 2, in: &store) == [[1]], "its own oldest")
    #expect(store[[1]]?.republishAt == nil)
    #expect(store[[1]]?.expiry == .seconds(2) + configuration.itemAgeMax, "it is kept for its age")
    #expect(try keepAlive(2...2, by: 1, at: 3, in: &store) == [], "once more, it is the newest")
    #expect(try keepAlive(11...12, by: 2, at: 4, in: &store) == [])
    #expect(try keepAlive(21...21, by: 3, at: 5, in: &store) == [])
    #expect(try keepAlive(22...22, by: 3, at: 6, in: &store) == [[3]], "of the caller with most")
    #expect(try keepAlive(31...34, by: nil, at: 7, in: &store).count == 4)
    #expect(store.all.count { $0.entry.republishAt != nil } == 6)
    #expect(store.due(at: .seconds(7) + configuration.republishInterval, max: 99).count == 6)
  }

  @Test("a value is put again for thirty days, unless it is put once more")
  func keptAliveAge() throws {
    let configuration = DHTConfiguration()
    #expect(configuration.ownItemAgeMax == .seconds(30 * 86_400))
    var store = ItemStore(configuration)
    _ = try keepAlive(1...2, by: 1, at: 0, in: &store)
    let end = configuration.ownItemAgeMax
    #expect(store.removeExpired(now: end - .seconds(1)) == [])
    _ = try keepAlive(2...2, by: 1, at: 86_400, in: &store)
    #expect(store.removeExpired(now: end) == [[1]])
    #expect(store.removeExpired(now: end + .seconds(86_400)) == [[2]])
  }

  @Test("P30 values of one /24 are bounded, and the network that has most makes room")
  func networks() throws {
    var configuration = DHTConfiguration()
    configuration.itemsMax = 20
    configuration.itemsPerAddressMax = 9
    configuration.itemsPerPrefixMax = 16
    var store = ItemStore(configuration)
    var number: UInt8 = 0
    func insert(by ip: UInt32) throws -> [[UInt8]] {
      number += 1
      return try store.insert(
        DHTItem(value: [number]), at: [number], owner: DHTHost(ip: ip), compareAndSwap: nil,
        now: .seconds(Int(number)))
    }
    // One honest host with four, and eight of one network with two each.
    for _ in 0..<4 { #expect(try insert(by: 0x0808_0801) == []) }
    for host in 1...16 as ClosedRange<UInt32> {
      #expect(try insert(by: 0x0909_0900 + host % 8) == [])
    }
    #expect(throws: KRPCErrorCode.addressLimit) { try insert(by: 0x0909_0963) }
    #expect(store.count == 20)
    for host in 1...5 as ClosedRange<UInt32> {
      let evicted = try insert(by: 0x0a0a_0001 + host << 8)
      #expect(evicted.count == 1 && evicted[0][0] > 4, "not the host that has most")
    }
    var shared = configuration
    shared.limitsLocalPrefixes = false
    store = ItemStore(shared)
    for host in 1...20 as ClosedRange<UInt32> { #expect(try insert(by: 0x0a00_0000 + host) == []) }
  }

  @Test("what is kept alive here stays so when somebody else puts it, too")
  func keptAlive() throws {
    let configuration = DHTConfiguration()
    var store = ItemStore(configuration)
    let item = DHTItem(value: Bencode("x").encoded)
    for owner in [nil, DHTHost(ip: 0x0808_0808)] {
      _ = try store.insert(
        item, at: [1], owner: owner, compareAndSwap: nil, now: .zero)
      if owner == nil { _ = store.keepAlive([1], now: .zero) }
    }
    #expect(store.removeExpired(now: configuration.itemAgeMax * 2).isEmpty)
    #expect(store[[1]]?.republishAt != nil)
  }
}

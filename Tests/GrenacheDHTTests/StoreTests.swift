import DHTSimulation
import TestSupport
import Testing

@testable import GrenacheDHT

@Suite("The store of announcements: limits and age")
struct PeerStoreTests {
  @Test("each limit, at it and one past it")
  func limits() {
    var configuration = DHTConfiguration()
    configuration.peersMax = 6
    configuration.keysMax = 3
    configuration.peersPerKeyMax = 2
    configuration.peersPerAddressMax = 4
    var store = PeerStore(configuration)
    func insert(_ peer: DHTAddress, for key: [UInt8], now: Duration) -> Bool {
      (try? store.insert(peer, for: key, now: now)) != nil
    }
    func peer(_ ip: UInt32, _ port: UInt16) -> DHTAddress { DHTAddress(ip: ip, port: port) }
    #expect(insert(peer(1, 1), for: [1], now: .zero))
    #expect(insert(peer(1, 2), for: [1], now: .zero))
    #expect(!insert(peer(1, 3), for: [1], now: .zero), "per key")
    #expect(insert(peer(1, 1), for: [1], now: .zero), "renewed")
    #expect(insert(peer(1, 1), for: [2], now: .zero))
    #expect(insert(peer(1, 1), for: [3], now: .zero))
    #expect(!insert(peer(1, 9), for: [3], now: .zero), "per address")
    #expect(!insert(peer(2, 1), for: [4], now: .zero), "keys")
    #expect(insert(peer(2, 1), for: [2], now: .zero))
    #expect(insert(peer(2, 1), for: [3], now: .zero))
    #expect(store.count == 6)
    // What has expired makes room.
    #expect(insert(peer(3, 1), for: [4], now: .seconds(120)))
    #expect(store.count == 1 && store.keyCount == 1)
  }

  @Test("P30 a full store is looked through once a second, however often somebody is refused")
  func sweep() throws {
    var configuration = DHTConfiguration()
    configuration.peersMax = 2
    var store = PeerStore(configuration)
    func insert(_ port: UInt16, at now: Duration, for age: Duration = .seconds(9)) -> Bool {
      let peer = DHTAddress(ip: 1, port: port)
      return (try? store.insert(peer, for: [1], now: now, until: now + age))?.isNew == true
    }
    #expect(insert(1, at: .zero, for: .milliseconds(1)))
    #expect(insert(2, at: .zero, for: .milliseconds(200)))
    #expect(insert(3, at: .milliseconds(100)), "the first has expired")
    #expect(!insert(4, at: .milliseconds(1_099)), "the second has, too, but who looks")
    #expect(insert(4, at: .milliseconds(1_100)))
    #expect(store.peers(of: [1], now: .milliseconds(1_100)).map(\.port) == [3, 4])
  }

  @Test("P30 one address has a share of the keys, one network another; loopback is exempt")
  func shares() {
    var configuration = DHTConfiguration()
    configuration.peersPerRemoteAddressMax = 3
    configuration.peersPerPrefixMax = 5
    var store = PeerStore(configuration)
    func kept(_ ip: UInt32) -> Int {
      (0..<10 as Range<UInt8>).count { key in
        (try? store.insert(DHTAddress(ip: ip, port: 1), for: [key], now: .zero))?.isNew == true
      }
    }
    #expect(kept(0x0808_0801) == 3)
    #expect(kept(0x0808_0802) == 2, "the network")
    #expect(kept(0x0808_0803) == 0)
    #expect(kept(0x0808_0901) == 3)
    #expect(kept(0x7f00_0001) == 10)
    #expect(store.remove(DHTAddress(ip: 0x0808_0801, port: 1), for: [0]) == true)
    #expect(kept(0x0808_0803) == 1)
    let sharing = DHTConfiguration()
    #expect(sharing.peersPerRemoteAddressMax * 20 <= sharing.keysMax)
  }

  @Test("P30 of one key one network has a share, and makes room for others when the key is full")
  func sharesOfKey() {
    var configuration = DHTConfiguration()
    #expect(configuration.peersPerKeyAndPrefixMax * 8 <= configuration.peersPerKeyMax)
    configuration.peersPerKeyMax = 8
    configuration.peersPerKeyAndPrefixMax = 4
    var store = PeerStore(configuration)
    func insert(_ ip: UInt32, _ port: UInt16) -> PeerStore.Refusal? {
      do throws(PeerStore.Refusal) {
        try store.insert(
          DHTAddress(ip: ip, port: port), for: [1], now: .zero, until: .seconds(Int(port)))
        return nil
      } catch {
        return error
      }
    }
    for port in 1...4 as ClosedRange<UInt16> {
      #expect(insert(0x0808_0801, port) == nil && insert(0x0909_0901, port) == nil)
    }
    #expect(insert(0x0808_0802, 9) == .addressLimit, "the network has its share")
    #expect(insert(0x0a0a_0a01, 9) == nil)
    #expect(store.count == 8)
    #expect(store.peers(of: [1], now: .zero).count { $0.ip == 0x0909_0901 } == 3)
    #expect(!store.peers(of: [1], now: .zero).contains(DHTAddress(ip: 0x0909_0901, port: 1)))
    #expect(insert(0x0a0a_0a01, 8) == nil, "8.8.8 has four")
    #expect(insert(0x0a0a_0a01, 7) == .full, "nobody has two more")
    #expect(insert(0x7f00_0001, 1) == nil, "loopback is no network")
    #expect(store.count == 8)
  }

  @Test("P30 in a full store the network that has most makes room, of half of what it has more")
  func sharesOfAll() {
    var configuration = DHTConfiguration()
    configuration.peersMax = 10
    configuration.keysMax = 9
    var store = PeerStore(configuration)
    func insert(
      _ ip: UInt32, _ key: UInt8, at now: Duration = .zero
    ) -> (isNew: Bool, displaced: [[UInt8]])? {
      try? store.insert(DHTAddress(ip: ip, port: 1), for: [key], now: now)
    }
    for key in 0..<8 as Range<UInt8> { #expect(insert(0x0808_0801, key)?.isNew == true) }
    #expect(insert(0x0909_0901, 1)?.isNew == true)
    #expect(insert(0x0909_0901, 8)?.isNew == true)
    #expect(insert(0x0808_0801, 8) == nil, "those who have most themselves")
    // Eight are six more than two; and 1 is another's key as well.
    #expect(insert(0x0909_0902, 9)?.displaced == [[0], [2], [3]])
    #expect(store.count == 8)
    for key in 20...21 as ClosedRange<UInt8> { #expect(insert(0x0a0a_0a01, key)?.displaced == []) }
    #expect(insert(0x0b0b_0b01, 30) == nil, "not so often")
    #expect(insert(0x0b0b_0b01, 30, at: PeerStore.sharingInterval)?.displaced.count == 2)
    #expect(store.count == 9)
  }

  @Test(
    "P30 in a store full of keys whole keys make room, on however many ports they are announced")
  func sharesOfKeys() {
    var configuration = DHTConfiguration()
    configuration.keysMax = 6
    var store = PeerStore(configuration)
    func insert(
      _ ip: UInt32, _ port: UInt16, _ key: UInt8, at round: Int = 0
    ) -> [[UInt8]]? {
      let (peer, now) = (DHTAddress(ip: ip, port: port), PeerStore.sharingInterval * round)
      return (try? store.insert(peer, for: [key], now: now))?.displaced
    }
    for key in 0..<5 as Range<UInt8> {
      for port in 1...2 as ClosedRange<UInt16> { #expect(insert(0x0808_0801, port, key) == []) }
    }
    #expect(insert(0x7f00_0001, 1, 4) == [], "loopback")
    for port in 1...3 as ClosedRange<UInt16> { #expect(insert(0x0909_0901, port, 5) == []) }
    #expect(insert(0x0909_0902, 1, 0) == [])
    // Half of 8.8.8's ten, and the rest of a key; 0 is another's as well.
    #expect(insert(0x0a0a_0a01, 1, 10) == [[1], [2], [3]])
    #expect(store.count == 10 && store.keyCount == 4)
    #expect(insert(0x0a0a_0a01, 2, 10) == [] && insert(0x0a0a_0a01, 1, 11) == [])
    #expect(insert(0x0a0a_0a01, 1, 12) == [] && store.keyCount == 6)
    #expect(insert(0x0b0b_0b01, 1, 20) == nil, "not so often")
    // The three networks have four each.
    #expect(insert(0x0b0b_0b01, 1, 20, at: 1) == [[10]])
    #expect(insert(0x0c0c_0c01, 1, 30, at: 2) == [[5]])
    // 9.9.9 would have nothing left without 0, nor 10.10.10 without 11 and 12.
    #expect(insert(0x0d0d_0d01, 1, 40, at: 3) == [[11]])
    #expect(store.peers(of: [4], now: .zero).count == 3, "and of loopback none")
    #expect(store.count == store.all.count)
  }

  /// A store full of keys: 8.8.8 has five, all of which 9.9.9 has joined with two announcements each, so
  /// that it has most and no key to itself; 7.7.7 has four; 1.1.1 has three, which expire first.
  private func crowdedStore() throws -> PeerStore {
    var configuration = DHTConfiguration()
    configuration.keysMax = 12
    var store = PeerStore(configuration)
    func insert(_ ip: UInt32, _ port: UInt16, _ key: UInt8, age: Int = 100) throws {
      try store.insert(
        DHTAddress(ip: ip, port: port), for: [key], now: .zero, until: .seconds(age))
    }
    for key in 0..<5 as Range<UInt8> {
      try insert(0x0808_0801, 1, key)
      for port in 1...2 as ClosedRange<UInt16> { try insert(0x0909_0901, port, key) }
    }
    for key in 5..<9 as Range<UInt8> { try insert(0x0707_0701, 1, key) }
    for key in 20..<23 as Range<UInt8> { try insert(0x0101_0101, 1, key, age: 50) }
    #expect(store.keyCount == 12)
    return store
  }

  @Test("P30 who joins the keys of others has nothing of a small network's go in place of his own")
  func sharesOfJoinedKeys() throws {
    var store = try crowdedStore()
    let new = DHTAddress(ip: 0x0606_0601, port: 1)
    // Half of the ten that 9.9.9 has more, with what 8.8.8 has of those keys.
    #expect(try store.insert(new, for: [30], now: .zero).displaced == [[0], [1]])
    for key in 20..<23 as Range<UInt8> {
      #expect(store.peers(of: [key], now: .zero).count == 1)
    }
  }

  @Test("P30 nor does this node's own caller take a key of a small network that a large one joined")
  func ownCallersAndJoinedKeys() throws {
    var store = try crowdedStore()
    try store.insert(
      DHTAddress(ip: 0x0909_0901, port: 1), for: [20], now: .zero, until: .seconds(40))
    let own = DHTAddress(ip: 0x0606_0601, port: 1)
    #expect(try store.insertOwn(own, for: [30], now: .zero).displaced == [[0]])
    #expect(try store.insertOwn(own, for: [31], now: .zero).displaced == [[1]])
    for key in 20..<23 as Range<UInt8> {
      #expect(!store.peers(of: [key], now: .zero).isEmpty)
    }
  }

  @Test("what has expired and is dropped to make room is told, whether or not there is room then")
  func swept() throws {
    let network = network(3, seed: 90) {
      $0.peersMax = 2
      $0.peersPerCallerMax = 1
    }
    var node = try #require(network.node(1))
    while node.nextAction() != nil {}
    /// Announces a key of its own, and gives those of which it is told that they have changed.
    func changed(_ key: UInt8, by caller: UInt8?, at seconds: Int) -> [[UInt8]] {
      let peer = DHTAddress(ip: 0x0101_0101, port: UInt16(key))
      let outcome = node.keep(
        peer, for: [key], by: caller.map { DHTCaller([$0]) }, now: .seconds(seconds))
      #expect(outcome == (key == 9 ? .callerLimit : .new))
      var keys: [[UInt8]] = []
      while let action = node.nextAction() {
        if case .peersChanged(let key) = action { keys.append(key) }
      }
      return keys
    }
    #expect(changed(1, by: nil, at: 1_000) == [[1]])
    #expect(changed(2, by: 7, at: 1_060) == [[2]])
    #expect(Set(changed(9, by: 7, at: 1_130)) == [[1]], "for nothing")
    #expect(changed(3, by: nil, at: 1_131) == [[3]])
    #expect(Set(changed(4, by: nil, at: 1_181)) == [[2], [4]])
  }

  @Test("a node in the routing table announces more, as much as a host may")
  func contacts() {
    var configuration = DHTConfiguration()
    configuration.peersPerRemoteAddressMax = 2
    configuration.peersPerPrefixMax = 3
    configuration.peersPerContactMax = 5
    var store = PeerStore(configuration)
    func kept(_ ip: UInt32, isContact: Bool) -> Int {
      (0..<10 as Range<UInt8>).count { key in
        let peer = DHTAddress(ip: ip, port: 1)
        return (try? store.insert(peer, for: [key], isContact: isContact, now: .zero))?.isNew
          == true
      }
    }
    #expect(kept(0x0808_0801, isContact: false) == 2)
    #expect(kept(0x0808_0801, isContact: true) == 3)
    #expect(kept(0x0808_0802, isContact: true) == 0, "the network")
    #expect(kept(0x0909_0901, isContact: true) == 5)
  }

  @Test("P26 what this node's own callers have announced, no datagram takes back")
  func ownStays() throws {
    let configuration = DHTConfiguration()
    var store = PeerStore(configuration)
    let peer = DHTAddress(ip: 0x0808_0801, port: 1)
    func remove(_ key: UInt8, at seconds: Int) -> Bool {
      store.removeStrangers(peer, for: [key], now: .seconds(seconds))
    }
    _ = try store.insertOwn(peer, for: [1], now: .zero)
    #expect(!remove(1, at: 1))
    #expect(store.peers(of: [1], now: .seconds(119)) == [peer])
    // Announced by datagram as well, it lasts as long as the longer of them.
    try store.insert(peer, for: [1], now: .seconds(60))
    #expect(store.peers(of: [1], now: .seconds(179)) == [peer])
    #expect(!remove(1, at: 61))
    #expect(store.peers(of: [1], now: .seconds(119)) == [peer])
    #expect(store.peers(of: [1], now: .seconds(120)) == [])
    try store.insert(peer, for: [1], now: .seconds(121))
    #expect(remove(1, at: 122), "theirs has expired")
    try store.insert(peer, for: [2], now: .zero)
    #expect(remove(2, at: 0))
    #expect(store.count == 0)
  }

  @Test("P30 strangers make room for this node's own callers, those of the largest network first")
  func ownCallers() throws {
    var configuration = DHTConfiguration()
    configuration.peersMax = 6
    configuration.keysMax = 4
    configuration.peersPerKeyMax = 3
    var store = PeerStore(configuration)
    func own(_ key: UInt8, _ port: UInt16) -> [[UInt8]]? {
      let peer = DHTAddress(ip: 0x0101_0101, port: port)
      return (try? store.insertOwn(peer, for: [key], now: .zero))?.displaced
    }
    for key in 0..<3 as Range<UInt8> {
      try store.insert(DHTAddress(ip: 0x0808_0801, port: 1), for: [key], now: .zero)
    }
    try store.insert(DHTAddress(ip: 0x0909_0901, port: 1), for: [3], now: .zero)
    #expect(own(10, 1) == [[0]], "too many keys")
    #expect(store.peers(of: [3], now: .zero).count == 1, "the smaller network keeps its own")
    #expect(own(10, 2) == [])
    #expect(own(10, 2) == [], "renewed")
    #expect(store.count == 5)
    #expect(own(10, 3) == [])
    #expect(own(10, 4) == nil, "of one key only own ones are left")
    #expect(own(1, 1) == [[1]])
    #expect(store.count == 6)
    for (key, port) in [(11, 1), (12, 1)] as [(UInt8, UInt16)] { #expect(own(key, port) != nil) }
    #expect(own(13, 1) == nil, "all are own ones")
    #expect(throws: PeerStore.Refusal.full) {
      try store.insert(DHTAddress(ip: 0x0909_0901, port: 1), for: [13], now: .zero)
    }
  }

  @Test("P30 one caller has so many announcements; what is renewed, and others', are no more")
  func callers() throws {
    var configuration = DHTConfiguration()
    configuration.peersPerCallerMax = 3
    var store = PeerStore(configuration)
    func own(_ key: UInt8, _ caller: UInt8?, now: Duration = .zero) -> PeerStore.Refusal? {
      let peer = DHTAddress(ip: 0x0101_0100 + UInt32(key), port: 1)
      do throws(PeerStore.Refusal) {
        _ = try store.insertOwn(peer, for: [key], by: caller.map { DHTCaller([$0]) }, now: now)
        return nil
      } catch {
        return error
      }
    }
    func remove(_ key: UInt8) {
      _ = store.remove(DHTAddress(ip: 0x0101_0100 + UInt32(key), port: 1), for: [key])
    }
    #expect([1, 2, 3, 4].map { own($0, 1) } == [nil, nil, nil, .callerLimit])
    #expect(own(3, 1) == nil, "renewed")
    #expect([11, 12, 13, 14].map { own($0, 2) } == [nil, nil, nil, .callerLimit])
    #expect((20..<30 as Range<UInt8>).allSatisfy { own($0, nil) == nil }, "who is not counted")
    #expect(own(1, 2) == .callerLimit && own(1, 3) == nil, "taken over: the new one's")
    #expect([4, 5].map { own($0, 1) } == [nil, .callerLimit])
    remove(4)
    #expect([5, 6].map { own($0, 1) } == [nil, .callerLimit])
    #expect(own(6, 1, now: .seconds(120)) == nil, "what has expired is not counted")
    #expect(store.count == 1)
  }

  @Test("P27 whoever has keys looked up does not make a node forget whom it told of its services")
  func told() {
    var configuration = DHTConfiguration()
    configuration.tokenTablesMax = 20
    configuration.keysMax = 10
    var tables = TokenTables(configuration)
    let contact = DHTContact(id: NodeID(prefixOf: [1]), address: DHTAddress(ip: 1, port: 1))
    func told(_ key: UInt8) -> Int { tables.told(of: [key], now: .seconds(20)).count }
    for key in 0..<10 as Range<UInt8> {
      tables.noteTold(contact, [1], for: [key], now: .seconds(Int(key)))
    }
    for key in 100..<200 as Range<UInt8> {
      tables.keep([(contact, [1])], for: [key], now: .seconds(10))
    }
    #expect(
      (100..<200 as Range<UInt8>).count { key in
        !tables.tokens(for: [key], now: .seconds(20)).isEmpty
      } == 20)
    #expect((0..<10 as Range<UInt8>).allSatisfy { told($0) == 1 })
    tables.noteTold(contact, [2], for: [0], now: .seconds(11))
    #expect(told(0) == 1, "told again")
    // One past the limit: the one that was told longest ago.
    tables.noteTold(contact, [1], for: [10], now: .seconds(12))
    #expect((0...10 as ClosedRange<UInt8>).map(told) == [1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    tables.removeExpired(now: .seconds(131))
    #expect(tables.told(of: [10], now: .seconds(12)).count == 1)
    #expect(tables.told(of: [0], now: .seconds(12)).isEmpty)
  }

  @Test("tokens are good for two intervals and for one address")
  func tokens() {
    var generator = SeededGenerator(seed: 1)
    var issuer = TokenIssuer(
      interval: .seconds(300), now: .zero, sha1: { simulatedHash($0, count: 20) }, using: &generator
    )
    let one = DHTAddress(ip: 1, port: 1)
    let token = issuer.token(for: one.host)
    #expect(issuer.isValid(token, from: DHTHost(ip: 1)))
    #expect(!issuer.isValid(token, from: DHTHost(ip: 2)))
    issuer.advance(to: .seconds(300), using: &generator)
    #expect(issuer.isValid(token, from: one.host))
    issuer.advance(to: .seconds(600), using: &generator)
    #expect(!issuer.isValid(token, from: one.host))
  }
}

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

import GrenacheIO
import GrenacheTLS
import TestSupport
import Testing

@testable import GrenacheGrape

@Suite("P30 Who asks a grape is counted by certificate", .timeLimit(.minutes(2)))
struct GrapeCallerTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private func address(_ ip: String, _ port: UInt16 = 1) throws -> SocketAddress {
    try #require(SocketAddress(ip: ip, port: port))
  }

  @Test("a key is one caller at every address; without one, an address is, or a /48")
  func callers() throws {
    let (near, far) = (try address("10.0.0.1"), try address("2001:db8::1"))
    #expect(GrapeCaller([1], at: near) == GrapeCaller([1], at: far))
    #expect(GrapeCaller([1], at: near) != GrapeCaller([2], at: near))
    #expect(GrapeCaller([1], at: near) != GrapeCaller(nil, at: near))
    #expect(GrapeCaller(nil, at: near) == GrapeCaller(nil, at: try address("10.0.0.1", 2)))
    #expect(GrapeCaller(nil, at: near) == GrapeCaller(nil, at: try address("::ffff:10.0.0.1")))
    #expect(GrapeCaller(nil, at: near) != GrapeCaller(nil, at: try address("10.0.0.2")))
    #expect(GrapeCaller(nil, at: far) == GrapeCaller(nil, at: try address("2001:db8:0:9::2")))
    #expect(GrapeCaller(nil, at: far) != GrapeCaller(nil, at: try address("2001:db8:1::1")))
  }

  @Test("what is announced is counted, but for callers on this machine without a certificate")
  func counted() throws {
    let local = try address("127.0.0.1")
    #expect(GrapeCaller(nil, at: local).counted == nil)
    #expect(GrapeCaller([1], at: local).counted != nil)
    #expect(GrapeCaller(nil, at: try address("10.0.0.1")).counted != nil)
  }

  @Test("announcements: one past the limit is refused, from every address; others' are not")
  func announcements() async throws {
    let (one, other) = (try authority.worker("svc:*"), try authority.worker("svc:*"))
    try await withGrape(
      tls: try authority.host(),
      configure: {
        $0.announcementsPerCallerMax = 2
        $0.additionalListeners = [("::1", 0)]
      }
    ) { grape in
      func announce(
        _ number: Int, _ tls: TLSConfiguration, at listener: Int = 0
      ) async throws -> String {
        try await post(
          "{\"data\":[\"svc:\(number)\",1]}", "/announce", to: grape.apis[listener], as: tls
        ).body
      }
      let (kept, refused) = ("\"No nodes to query\"", "\"ERR_GRAPE_CALLER_LIMIT\"")
      #expect(try await announce(1, one) == kept)
      #expect(try await announce(2, one) == kept)
      #expect(try await announce(3, one) == refused)
      #expect(try await announce(3, one, at: 1) == refused, "from another address")
      #expect(try await announce(2, one) == kept, "renewed")
      #expect(try await announce(3, other) == kept, "the same names at the same address")
      let found = try await post("{\"data\":\"svc:3\"}", "/lookup", to: grape.api, as: one)
      #expect(found.body == "[\"127.0.0.1:1\"]")
      _ = try await post("{\"data\":[\"svc:1\",1]}", "/withdraw", to: grape.api, as: one)
      #expect(try await announce(4, one) == kept)
    }
  }

  @Test("values: one past the limit, the caller's own make room, and nobody else's")
  func values() async throws {
    let (one, other) = (try authority.client(), try authority.client())
    try await withGrape(
      tls: try authority.host(), configure: { $0.valuesPerCallerMax = 2 }
    ) { grape in
      let clients = (try await KeptClient(one, grape.api), try await KeptClient(other, grape.api))
      _ = try await clients.1.post("{\"data\":\"other\"}", "/put")
      try await clients.0.post(0..<2, "/put") { "{\"data\":\"value \($0)\"}" }
      #expect(try await clients.0.status("values") == 3)
      try await clients.0.post(2..<9, "/put") { "{\"data\":\"value \($0)\"}" }
      #expect(try await clients.0.status("values") == 3)
      let kept = try await clients.0.post("{\"data\":\"\(target("other"))\"}", "/get")
      #expect(kept.body.contains("\"v\":\"other\""))
    }
  }

  @Test("watches: 250 keys of one certificate over all its connections, and not one more")
  func watches() async throws {
    let (one, other) = (try authority.client(), try authority.client())
    try await withGrape(tls: try authority.host()) { grape in
      /// The keys that are watched, and those that are not.
      func watch(_ keys: Range<Int>, with watcher: Watcher.Handle) async throws -> [Int] {
        var count = (told: 0, refused: 0)
        for key in keys { try await watcher.send("{\"data\":\"key \(key)\"}") }
        for _ in keys {
          switch try await watcher.next() {
          case "{\"error\":\"ERR_GRAPE_WATCH_LIMIT\"}": count.refused += 1
          case let text where text.hasSuffix(",\"peers\":[]}"): count.told += 1
          case let text: Issue.record("\(text)")
          }
        }
        return [count.told, count.refused]
      }
      var watchers: [Watcher.Handle] = []
      for tls in [one, one, one, other] {
        watchers.append(try await Watcher.open(grape.api, as: tls))
      }
      #expect(try await watch(0..<100, with: watchers[0]) == [100, 0])
      #expect(try await watch(100..<200, with: watchers[1]) == [100, 0])
      #expect(try await watch(200..<251, with: watchers[2]) == [50, 1])
      #expect(try await watch(250..<251, with: watchers[3]) == [1, 0])
      await watchers[0].close()
      try await eventually { try await watch(300..<301, with: watchers[2]) == [1, 0] }
    }
  }
}

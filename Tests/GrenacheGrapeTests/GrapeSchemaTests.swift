import Foundation
import GrenacheDHT
import TestSupport
import Testing

@testable import GrenacheGrape

@Suite("P31 Whose things are counted is remembered, and files of before are read")
struct GrapeSchemaTests {
  let authority: TestAuthority
  let folder: TemporaryFolder

  init() throws {
    authority = try TestAuthority()
    folder = try TemporaryFolder()
  }

  private func key(_ number: Int) -> [UInt8] { Array("key \(number)".utf8) }

  private func withGrape(
    _ body: @escaping @Sendable (GrapeNode.Addresses) async throws -> Void
  ) async throws {
    let path = folder.path
    try await GrenacheGrapeTests.withGrape(
      tls: try authority.host(),
      configure: {
        $0.stateFolder = path
        $0.announcementsPerCallerMax = 2
        $0.valuesPerCallerMax = 2
      }, body)
  }

  @Test("P30 limits of callers hold across a restart: at them, and one past them")
  func limits() async throws {
    let (one, other) = (try authority.worker("svc:*"), try authority.worker("svc:*"))
    let (kept, refused) = ("\"No nodes to query\"", "\"ERR_GRAPE_CALLER_LIMIT\"")
    try await withGrape { grape in
      let (ones, others) = (
        try await KeptClient(one, grape.api), try await KeptClient(other, grape.api)
      )
      for (client, number) in [(ones, 1), (ones, 2), (others, 3)] {
        let answer = try await client.post("{\"data\":[\"svc:\(number)\",1]}", "/announce")
        #expect(answer.body == kept)
        _ = try await client.post("{\"data\":\"value \(number)\"}", "/put")
      }
    }
    for round in 0..<2 {
      try await withGrape { grape in
        let (ones, others) = (
          try await KeptClient(one, grape.api), try await KeptClient(other, grape.api)
        )
        func announce(_ number: Int, _ client: KeptClient) async throws -> String {
          try await client.post("{\"data\":[\"svc:\(number)\",1]}", "/announce").body
        }
        #expect(try await ones.status("announcements") == 3 + round)
        #expect(try await announce(9, ones) == refused)
        #expect(try await announce(2, ones) == kept, "renewed")
        #expect(try await announce(4, others) == kept)
        #expect(try await announce(5, others) == refused)
        _ = try await ones.post("{\"data\":\"value 1\(round)\"}", "/put")
        #expect(try await ones.status("values") == 3)
        let found = try await ones.post("{\"data\":\"\(target("value 3"))\"}", "/get")
        #expect(found.body.contains("\"v\":\"value 3\""), "somebody else's stays")
      }
    }
  }

  @Test("what others have put here is counted for them after a restart as well")
  func owners() async throws {
    let store = try GrapeStore(folder: folder.path, logger: quietLogger)
    let host = DHTHost(ip: 0x0808_0801)
    let ids = DHTNodeIDs(ipv4: NodeID(prefixOf: [1]), ipv6: NodeID(prefixOf: [1]))
    var memory = GrapeMemory(ids: ids, contacts: [], peers: [], items: [])
    for (number, owner, caller) in [(1, host, nil), (2, nil, DHTCaller([1])), (3, nil, nil)]
      as [(Int, DHTHost?, DHTCaller?)]
    {
      memory.items.append(
        .init(
          target: key(number), item: DHTItem(value: [1]), remaining: .seconds(60), isOwn: false,
          owner: owner, caller: caller))
      memory.peers.append(
        .init(
          key: key(number), peer: DHTAddress(host: host, port: 1), remaining: .seconds(60),
          isOwn: number > 1, caller: caller))
    }
    memory.replacesPeers = true
    try await store.write(memory)
    let loaded = try #require(try await store.load())
    func byKey<Kept>(_ all: [Kept], _ key: (Kept) -> [UInt8]) -> [Kept] {
      all.sorted { key($0).lexicographicallyPrecedes(key($1)) }
    }
    let (items, peers) = (byKey(loaded.items, \.target), byKey(loaded.peers, \.key))
    #expect(items.map(\.owner) == [host, nil, nil] as [DHTHost?])
    #expect(items.map(\.caller) == [nil, DHTCaller([1]), nil])
    #expect(peers.map(\.isOwn) == [false, true, true])
    #expect(peers.map(\.caller) == [nil, DHTCaller([1]), nil])
  }

  @Test("a file of the first version is read, upgraded and written, and nothing of it is lost")
  func firstVersion() async throws {
    let old = try SQLiteConnection(path: "\(folder.path)/grape.sqlite")
    let expiry = WallClock.now().seconds + 1_000
    let value = target("old").lowercased()
    try old.execute(
      """
      PRAGMA journal_mode=WAL;
      CREATE TABLE ids (family INTEGER PRIMARY KEY, id BLOB NOT NULL);
      CREATE TABLE contacts (id BLOB PRIMARY KEY, address BLOB NOT NULL);
      CREATE TABLE peers (
        key BLOB NOT NULL, address BLOB NOT NULL, expiry INTEGER NOT NULL,
        PRIMARY KEY (key, address));
      CREATE TABLE items (
        target BLOB PRIMARY KEY, value BLOB NOT NULL, publicKey BLOB NOT NULL, salt BLOB NOT NULL,
        sequence INTEGER NOT NULL, signature BLOB NOT NULL, expiry INTEGER NOT NULL,
        own INTEGER NOT NULL);
      INSERT INTO ids VALUES (4, zeroblob(20)), (6, zeroblob(20));
      INSERT INTO peers VALUES (CAST('svc:1' AS BLOB), X'7F0000010001', \(expiry));
      INSERT INTO items VALUES (X'\(value)', CAST('3:old' AS BLOB), X'', X'', 0, X'', \(expiry), 1);
      """)
    let client = try authority.worker("svc:*")
    for round in 0..<2 {
      try await withGrape { grape in
        let kept = try await KeptClient(client, grape.api)
        #expect(try await kept.status("announcements") == 1 + round)
        #expect(try await kept.status("values") == 1 + round)
        let found = try await kept.post("{\"data\":\"svc:1\"}", "/lookup").body
        #expect(found == "[\"127.0.0.1:1\"]")
        let got = try await kept.post("{\"data\":\"\(value)\"}", "/get").body
        #expect(got.contains("\"v\":\"old\""))
        _ = try await kept.post("{\"data\":[\"svc:2\",1]}", "/announce")
        _ = try await kept.post("{\"data\":\"new\"}", "/put")
      }
      #expect(try query(folder.path, "PRAGMA user_version") == "\(GrapeSchema.version)")
      #expect(try query(folder.path, "SELECT count(*) FROM peers WHERE length(caller) = 32") == "1")
    }
  }

  @Test("a file of a later version is an error at the start, and is left as it is")
  func laterVersion() async throws {
    let connection = try SQLiteConnection(path: "\(folder.path)/grape.sqlite")
    try connection.execute("PRAGMA user_version=2; CREATE TABLE future (x)")
    let error = await #expect(throws: GrapeError.self) { try await withGrape { _ in } }
    #expect(error?.description.contains("a later version") == true)
    #expect(try query(folder.path, "SELECT count(*) FROM sqlite_master") == "1")
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path)
    #expect(!names.contains { $0.contains("damaged") })
  }
}

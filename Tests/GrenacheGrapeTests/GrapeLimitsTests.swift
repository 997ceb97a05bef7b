import ArgumentParser
import GrenacheDHT
import GrenacheTLS
import Testing

@testable import GrapeCommand
@testable import GrenacheGrape

@Suite("What a grape is told is what its DHT gets")
struct GrapeLimitsTests {
  @Test("every limit of the configuration arrives, and at its own place")
  func configuration() {
    var grape = GrapeConfiguration(apiPort: 0, dhtPort: 0, tls: .directory("/nowhere"))
    grape.lookupParallelism = 101
    grape.peerAge = .seconds(102)
    grape.nodeLiveness = .seconds(103)
    grape.servicesMax = 104
    grape.announcementsMax = 105
    grape.announcementsPerLoopbackAddressMax = 106
    grape.announcementsPerAddressMax = 107
    grape.announcementsPerNetworkMax = 108
    grape.announcementsPerContactMax = 109
    grape.announcementsPerCallerMax = 110
    grape.valuesMax = 111
    grape.valuesPerCallerMax = 112
    grape.sharesPrivateNetwork = true
    grape.acceptsAnyNodeIdentifier = true
    grape.isReadOnly = true
    grape.dhtHostIPv6 = "::1"
    var expected = DHTConfiguration()
    expected.parallelism = 101
    expected.peerAgeMax = .seconds(102)
    expected.nodeLiveness = .seconds(103)
    expected.keysMax = 104
    expected.peersMax = 105
    expected.peersPerAddressMax = 106
    expected.peersPerRemoteAddressMax = 107
    expected.peersPerPrefixMax = 108
    expected.peersPerContactMax = 109
    expected.peersPerCallerMax = 110
    expected.itemsMax = 111
    expected.itemsPerCallerMax = 112
    expected.limitsLocalPrefixes = false
    expected.checksNodeIDs = false
    expected.isReadOnly = true
    expected.families = [.ipv4, .ipv6]
    #expect(GrapeNode(grape, logger: quietLogger).dhtConfiguration == expected)
  }

  @Test("the defaults of a grape are those of its DHT")
  func defaults() {
    let grape = GrapeConfiguration(apiPort: 0, dhtPort: 0, tls: .directory("/nowhere"))
    #expect(GrapeNode(grape, logger: quietLogger).dhtConfiguration == DHTConfiguration())
  }

  @Test(
    "the options of existing grapes, short and long",
    arguments: [
      [
        "--dp", "1", "--aph", "2", "--bn", "127.0.0.1:3", "-b", "127.0.0.1", "--dc", "201", "--dpa",
        "202", "--dnl", "203", "--dht_maxTables", "60004", "--dht_maxValues", "70005",
        "--check_maxPayloadSize", "206", "--cache_maxAge", "207",
      ],
      [
        "--dht_port", "1", "--api_port", "2", "--bootstrap", "127.0.0.1:3", "--bind", "127.0.0.1",
        "--dht_concurrency", "201", "--dht_peer_maxAge", "202", "--dht_nodeLiveness", "203",
        "--dht_maxTables", "60004", "--dht_maxValues", "70005", "--check_maxPayloadSize", "206",
        "--cache_maxAge", "207",
      ],
    ])
  func options(_ arguments: [String]) throws {
    let grape = try GrapeCommand.parse(arguments + ["--insecure-plaintext"]).grapeConfiguration()
    #expect(grape.dhtPort == 1 && grape.apiPort == 2)
    #expect(grape.bootstrap.map(\.description) == ["127.0.0.1:3"])
    #expect(grape.host == "127.0.0.1")
    #expect(grape.lookupParallelism == 201)
    #expect(grape.peerAge == .milliseconds(202))
    #expect(grape.nodeLiveness == .milliseconds(203))
    #expect(grape.servicesMax == 60_004)
    #expect(grape.valuesMax == 70_005)
    #expect(grape.payloadBytesMax == 206)
    // What grows with the number of services.
    #expect(grape.announcementsMax == 120_008)
    #expect(grape.announcementsPerContactMax == 30_002)
    #expect(grape.announcementsPerAddressMax == 3_000)
    #expect(grape.announcementsPerNetworkMax == 6_000)
    #expect(grape.announcementsPerCallerMax == 30_002)
    #expect(grape.valuesPerCallerMax == 35_002)
  }

  @Test("announcements of one grape, and of one address, as they are said")
  func announcements() throws {
    let grape = try GrapeCommand.parse([
      "--dp", "1", "--aph", "2", "--bn", "", "--announcements-per-grape", "301",
      "--announcements-per-address", "302", "--insecure-plaintext",
    ]).grapeConfiguration()
    #expect(grape.announcementsPerContactMax == 301)
    #expect(grape.announcementsPerAddressMax == 302)
    #expect(grape.announcementsPerNetworkMax == 604)
  }
}

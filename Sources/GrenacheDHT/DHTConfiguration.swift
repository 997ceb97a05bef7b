/// How a node behaves, and its limits. Times are virtual: the caller says what time it is.
package struct DHTConfiguration: Hashable, Sendable {
  /// Nodes to ask first.
  package var bootstrap: [DHTAddress] = []
  /// The networks that the node is part of (default IPv4 alone, as existing nodes; BEP 32).
  package var families: Set<DHTFamily> = [.ipv4]
  /// The addresses at which others see the node, at most one of each network, if they are known: its
  /// identifiers fit them (BEP 42), whatever others say. Of a network without one (the default) the
  /// node learns its own.
  package var publicHosts: [DHTHost] = []
  /// Asks but answers nothing, and is not to be known by others (BEP 43; default false).
  package var isReadOnly = false
  /// Contacts of a bucket, and nodes that store an announcement (20, as existing nodes).
  package var bucketSize = 20

  // MARK: Lookups

  /// Queries of one lookup under way at once (default 8: in a network of 20 nodes, which is what most
  /// grapes form, a lookup then takes two round trips).
  package var parallelism = 8
  /// How long an answer is waited for (default 2 s, as existing nodes).
  package var queryTimeout = Duration.seconds(2)
  /// After this at the latest a lookup or an announcement goes on without the node (default 400 ms): one
  /// that is dead does not hold up the others. Its answer still counts if it comes. As round trips
  /// become known, they decide (RFC 6298), and earlier, by the node's own, when another is asked beside
  /// it.
  package var slowAfter = Duration.milliseconds(400)
  /// The same at the earliest (default 25 ms).
  package var slowAfterMin = Duration.milliseconds(25)
  /// A lookup of peers ends when so many nodes, each of another network, have named some, and none that
  /// is nearer to the key is still to be heard (default 3).
  package var sufficientAnswers = 3
  /// Queries under way at once, all lookups together (default 4,096); more fail.
  package var outstandingMax = 4_096
  /// How long what a lookup has found is given again (default 1 s).
  package var lookupCacheAge = Duration.seconds(1)
  /// How long it is remembered that a lookup has found nothing (default 250 ms).
  package var negativeCacheAge = Duration.milliseconds(250)
  /// Results that are remembered (default 5,000).
  package var lookupCacheMax = 5_000
  /// What they may take, about, in bytes (default 32 MiB: few services have a thousand peers).
  package var lookupCacheBytesMax = 32 << 20

  // MARK: What is stored

  /// How long an announcement is kept (default 120 s).
  package var peerAgeMax = Duration.seconds(120)
  /// Announcements kept (default 10,000).
  package var peersMax = 10_000
  /// Keys with announcements (default 5,000), and as many of which is kept whom this node has told of its
  /// own services.
  package var keysMax = 5_000
  /// Announcements kept of one key (default 1,000).
  package var peersPerKeyMax = 1_000
  /// The same of one /24, or /48 of IPv6 (default 125, an eighth), loopback aside. When a key is full, or
  /// the store, the network that has most makes room for one that has less.
  package var peersPerKeyAndPrefixMax = 125
  /// Announcements kept of one IP address (default 5,000: all of a host's services). This node's own
  /// callers are not limited by this and the next two, and strangers make room for them.
  package var peersPerAddressMax = 5_000
  /// The same of one that is not loopback (default 250, a twentieth of the keys: nobody takes them all).
  package var peersPerRemoteAddressMax = 250
  /// The same of a /24, or a /48 of IPv6 (default 500).
  package var peersPerPrefixMax = 500
  /// In place of both, of a node in the routing table, which has proven to be there (default 2,500: all
  /// services of a host whose grape is elsewhere).
  package var peersPerContactMax = 2_500
  /// Announcements kept of one of this node's own callers (default 2,500, half of the keys).
  package var peersPerCallerMax = 2_500
  /// Peers in one answer, drawn by chance (default 100: about 800 bytes).
  package var peersPerAnswerMax = 100
  /// Values kept (default 5,000), those of this node's own callers among them.
  package var itemsMax = 5_000
  /// Values kept of one IP address other than loopback, or /48 of IPv6 (default 500).
  package var itemsPerAddressMax = 500
  /// The same of a /24 (default 1,000, a fifth); when the store is full, the network that has most makes
  /// room.
  package var itemsPerPrefixMax = 1_000
  /// Values kept of one of this node's own callers (default 2,500, half of them); then the one that
  /// would expire first makes room.
  package var itemsPerCallerMax = 2_500
  /// How long a value is kept that nobody puts again (default 24 h).
  package var itemAgeMax = Duration.seconds(86_400)
  /// How often the values that were put through this node are put again (default 1 h, BEP 44).
  package var republishInterval = Duration.seconds(3_600)
  /// Values that are put again (default 1,000); one more, and of the caller with most the oldest is not.
  package var ownItemsMax = 1_000
  /// The same of one of this node's own callers (default 250, a quarter).
  package var ownItemsPerCallerMax = 250
  /// For how long a value is put again, unless its caller puts it once more (default 30 days).
  package var ownItemAgeMax = Duration.seconds(30 * 86_400)
  /// How long the tokens of a lookup are used again (default 5 min, their shortest life).
  package var tokenAge = Duration.seconds(300)
  /// Keys whose tokens are kept for announcing again (default 1,000).
  package var tokenTablesMax = 1_000
  /// Withdrawals that are repeated to those who have not answered, for as long as announcements live
  /// (default 5,000); one more, and the oldest is not.
  package var withdrawalsMax = 5_000
  /// How long between changes of the secret behind our tokens (default 5 min; two are valid).
  package var tokenSecretInterval = Duration.seconds(300)

  // MARK: Whom it knows

  /// A contact that has been silent for so long is questionable and asked whether it lives (default
  /// 5 min).
  package var nodeLiveness = Duration.seconds(300)
  /// A bucket that has not changed for so long is refreshed (default 15 min, BEP 5).
  package var bucketRefresh = Duration.seconds(900)
  /// Strangers whose address is being checked before they enter the routing table (default 64), and as
  /// many others.
  package var verificationsMax = 64
  /// Nodes of one /24, or /48 of IPv6, in a bucket and among those that a lookup relies on
  /// (default 2): whoever has one network cannot surround a key.
  package var nodesPerPrefixMax = 2
  /// Whether that counts on private and link-local addresses, too (default true); never on loopback.
  package var limitsLocalPrefixes = true
  /// Whether only nodes whose identifier fits their address are known (default true, BEP 42); local
  /// addresses are exempt.
  package var checksNodeIDs = true

  // MARK: Abuse; loopback is exempt from these

  /// Queries answered a second of one address that has proven nothing (default 100).
  package var queriesPerSecondMax = 100
  /// The same of a node in the routing table (default 2,000).
  package var queriesPerSecondOfContactMax = 2_000
  /// The same of all unproven addresses of a /24 or /48 (default 400).
  package var queriesPerSecondOfPrefixMax = 400
  /// Strangers' addresses that are counted in one second (default 10,000); later ones share what one is
  /// allowed. Contacts are counted apart.
  package var countedAddressesMax = 10_000
  /// An answer has at most so many bytes for one of the query (default 4: to a query of 100 bytes, as
  /// nodes send them, ten nodes fit; to one that is made as small as can be, none or one) …
  package var amplificationMax = 4
  /// … but for so many bytes a second and address (default 4,096) …
  package var unprovenExtraBytesPerSecond = 4_096
  /// … of all strangers of a /24 or /48 together (default 16 KiB) …
  package var unprovenExtraBytesPerSecondOfPrefix = 16_384
  /// … of all strangers (default 512 KiB) …
  package var unprovenExtraBytesPerSecondOfAll = 524_288
  /// … and of a contact that has lately shown by a token that what comes from its address is its own
  /// (default 256 KiB: a busy one's 400 lookups a second) …
  package var contactExtraBytesPerSecond = 262_144
  /// … of all contacts (default 4 MiB).
  package var contactExtraBytesPerSecondOfAll = 4_194_304
  /// How long a token shows that (default 5 min, a token's shortest life).
  package var tokenProofAge = Duration.seconds(300)

  package init() {}

  /// Whether addresses of that network are limited in number.
  func limitsPrefix(of host: DHTHost) -> Bool {
    host.isLimited(limitsLocalPrefixes)
  }

  /// Whether a node may be known by that identifier there.
  func accepts(_ contact: DHTContact) -> Bool {
    !checksNodeIDs || contact.id.isAllowed(at: contact.address.host)
  }
}

extension DHTHost {
  /// Whether of its network only so many may take part.
  func isLimited(_ limitsLocalPrefixes: Bool) -> Bool {
    !isLoopback && (limitsLocalPrefixes || !isLocal)
  }
}

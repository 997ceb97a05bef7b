/// How a node behaves, and its limits. Times are virtual: the caller says what time it is.
package struct DHTConfiguration: Hashable, Sendable {
  /// Nodes to ask first.
  package var bootstrap: [DHTAddress] = []
  /// Contacts of a bucket, and nodes that store an announcement (20, as existing nodes).
  package var bucketSize = 20
  /// Queries of one lookup under way at once (default 8: in a network of 20 nodes, which is what most
  /// grapes form, a lookup then takes two round trips).
  package var parallelism = 8
  /// How long an answer is waited for (default 2 s, as existing nodes).
  package var queryTimeout = Duration.seconds(2)
  /// After this a lookup or an announcement goes on without the node (default 400 ms): one that is dead
  /// does not hold up the others. Its answer still counts if it comes.
  package var slowAfter = Duration.milliseconds(400)
  /// Queries under way at once, all lookups together (default 512); more wait.
  package var outstandingMax = 512
  /// How long an announcement is kept (default 120 s).
  package var peerAgeMax = Duration.seconds(120)
  /// Announcements kept (default 10,000).
  package var peersMax = 10_000
  /// Keys with announcements (default 5,000).
  package var keysMax = 5_000
  /// Announcements kept of one key (default 1,000).
  package var peersPerKeyMax = 1_000
  /// Announcements kept of one IP address (default 5,000: all of a host's services).
  package var peersPerAddressMax = 5_000
  /// Peers in one answer, drawn by chance (default 100: about 800 bytes).
  package var peersPerAnswerMax = 100
  /// A contact that has been silent for so long is asked whether it lives (default 5 min).
  package var nodeLiveness = Duration.seconds(300)
  /// How long the tokens of a lookup are used again (default 5 min, their shortest life).
  package var tokenAge = Duration.seconds(300)
  /// Keys whose tokens are kept for announcing again (default 1,000).
  package var tokenTablesMax = 1_000
  /// How long between changes of the secret behind our tokens (default 5 min; two are valid).
  package var tokenSecretInterval = Duration.seconds(300)
  /// Strangers whose address is being checked before they enter the routing table (default 64).
  package var verificationsMax = 64

  package init() {}
}

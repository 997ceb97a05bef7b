/// Who may be at the other end, beside having a certificate that chains to the configured roots.
public struct PeerVerification: Hashable, Sendable {
  enum Rule: Hashable, Sendable {
    case service(String, host: String?)
    case host(String)
    case publicKeys(Set<[UInt8]>)
    case fingerprints(Set<[UInt8]>)
    case anyOfTheChain
    case custom(String, IdentifiedClosure<PeerIdentity, Bool>)
    indirect case all([Rule])
  }
  let rule: Rule

  /// A worker or publisher of a service: its certificate names the service by a URI `grenache:<service>`.
  ///
  /// - Parameters:
  ///   - name: the service.
  ///   - host: an IP address or a host's name that will do in its place, where the certificate names it as
  ///     `name(_:)` wants it. It has to be one that this side knows by itself. Of an address that a lookup
  ///     has found nobody says whose it is: with that, any host that has a certificate for its own
  ///     address could answer for every service.
  public static func service(_ name: String, orAddress host: String? = nil) -> PeerVerification {
    PeerVerification(rule: .service(name, host: host))
  }

  /// A host: an IP name for an address, a DNS name otherwise (RFC 9525: exact, or `*` as the whole
  /// left-most label).
  public static func name(_ host: String) -> PeerVerification {
    PeerVerification(rule: .host(host))
  }

  /// One of these public keys, each the SHA-256 of its SubjectPublicKeyInfo. Pin a spare one, too.
  public static func publicKeyPins(_ digests: [[UInt8]]) -> PeerVerification {
    PeerVerification(rule: .publicKeys(Set(digests)))
  }

  /// One of these certificates, each by its SHA-256.
  public static func certificateFingerprints(_ digests: [[UInt8]]) -> PeerVerification {
    PeerVerification(rule: .fingerprints(Set(digests)))
  }

  /// Anybody whom the roots vouch for, whatever the name: right for a server's clients, which are
  /// authorised by their identity later, and for nothing else.
  public static let anyPeerThatTheRootsVouchFor = PeerVerification(rule: .anyOfTheChain)

  /// Whom `body` accepts, of those whom the roots vouch for. It is called in the handshake, on the
  /// thread of the connection's loop, and must not wait for anything; `meant` says in messages who was
  /// meant.
  ///
  /// Make it once and use it for every connection: two of them are never equal, whatever they do, and a
  /// session is resumed only under the verification that it began with.
  public static func custom(
    _ meant: String, _ body: @escaping @Sendable (PeerIdentity) -> Bool
  ) -> PeerVerification {
    PeerVerification(rule: .custom(meant, IdentifiedClosure(body)))
  }

  /// Whoever satisfies all of them; of none, nobody does.
  public static func all(_ verifications: [PeerVerification]) -> PeerVerification {
    PeerVerification(rule: .all(verifications.map(\.rule)))
  }

  /// Whether the peer is one who was meant.
  func accepts(_ peer: PeerIdentity) -> Bool { Self.accepts(peer, by: rule) }

  private static func accepts(_ peer: PeerIdentity, by rule: Rule) -> Bool {
    switch rule {
    case .service(let name, let host):
      let isNamed = peer.names.contains { san in
        guard case .uri(let text) = san else { return false }
        return ServicePattern(uri: text)?.covers(name) ?? false
      }
      return isNamed || host.map { covers(peer, host: $0) } ?? false
    case .host(let host):
      return covers(peer, host: host)
    case .publicKeys(let digests):
      return digests.contains(peer.publicKeySHA256)
    case .fingerprints(let digests):
      return digests.contains(peer.fingerprintSHA256)
    case .anyOfTheChain:
      return true
    case .custom(_, let body):
      return body(peer)
    case .all(let rules):
      return !rules.isEmpty && rules.allSatisfy { accepts(peer, by: $0) }
    }
  }

  /// Who was meant, for messages.
  var expectedNames: [String] { Self.expectedNames(of: rule) }

  private static func expectedNames(of rule: Rule) -> [String] {
    switch rule {
    case .service(let name, let host):
      ["URI:\(ServicePattern.uri(for: name))"] + (host.map { [hostText($0)] } ?? [])
    case .host(let host): [hostText(host)]
    case .publicKeys(let digests): digests.map { "public key sha256:\(Digest.hex($0))" }.sorted()
    case .fingerprints(let digests): digests.map { "certificate sha256:\(Digest.hex($0))" }.sorted()
    case .anyOfTheChain: []
    case .custom(let meant, _): [meant]
    case .all(let rules): rules.flatMap(expectedNames)
    }
  }

  private static func hostText(_ host: String) -> String {
    IPAddressText.bytes(host) == nil ? "DNS:\(host)" : "IP:\(host)"
  }

  private static func covers(_ peer: PeerIdentity, host: String) -> Bool {
    if let address = IPAddressText.bytes(host) { return peer.names.contains(.ip(address)) }
    return peer.names.contains { name in
      guard case .dns(let pattern) = name else { return false }
      return dnsMatches(pattern, host)
    }
  }

  /// RFC 9525 §6.3: ASCII letters in either case; `*` stands for exactly one left-most label.
  package static func dnsMatches(_ pattern: String, _ host: String) -> Bool {
    let name = host.hasSuffix(".") ? String(host.dropLast()) : host
    let wanted = labels(name)
    let given = labels(pattern)
    guard !wanted.isEmpty, wanted.count == given.count, wanted.allSatisfy({ !$0.isEmpty }) else {
      return false
    }
    if given[0] == "*" {
      return given.count >= 3 && given.dropFirst().elementsEqual(wanted.dropFirst())
    }
    return !pattern.contains("*") && given == wanted
  }

  /// Whether there is a host that `dnsMatches` finds `pattern` to stand for: labels of letters, digits,
  /// `-` and `_`, of which the left-most of three or more may be `*`.
  package static func isDNSPattern(_ pattern: String) -> Bool {
    var labels = labels(pattern)[...]
    if labels.first == "*", labels.count >= 3 { labels = labels.dropFirst() }
    return labels.allSatisfy { label in
      (1...63).contains(label.utf8.count)
        && label.utf8.allSatisfy { byte in
          switch byte {
          case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "-"), UInt8(ascii: "_"):
            true
          default: false
          }
        }
    }
  }

  private static func labels(_ name: String) -> [String] {
    let lower = name.utf8.map { $0 >= 0x41 && $0 <= 0x5a ? $0 + 0x20 : $0 }
    return lower.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).map {
      String(decoding: $0, as: UTF8.self)
    }
  }
}

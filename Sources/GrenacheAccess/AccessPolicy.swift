public import GrenacheTLS

/// Who may do what with which keys. What no rule allows is denied.
///
/// Identities are those of verified certificates, compared by structure: names, public keys, issuers.
public struct AccessPolicy: Hashable, Sendable {
  /// What can be allowed.
  public enum Right: String, CaseIterable, Hashable, Sendable {
    /// Announcing a service at a grape.
    case announce
    /// Looking a service up at a grape.
    case lookup
    /// Storing a value in the DHT.
    case put
    /// Calling a service.
    case call
    /// Publishing under a key, which subscribers look at.
    case publish
    /// Subscribing to a key.
    case subscribe
  }

  /// Whom a rule is about.
  public enum Who: Hashable, Sendable {
    /// Everybody whom the roots vouch for; who has no certificate is nobody, and no rule is about nobody.
    /// (A server that is told to answer callers in the clear, or without a certificate, lets them in where
    /// `isOpen` says so.)
    case anyone
    /// A URI name of the certificate; a final `*` stands for anything.
    case uri(String)
    /// A DNS name of the certificate; `*` as the left-most label stands for one label (RFC 9525).
    case dns(String)
    /// The SHA-256 of the certificate's public key (SubjectPublicKeyInfo).
    case publicKeySHA256([UInt8])
    /// The SHA-256 of the public key of an authority above the certificate.
    case issuerPublicKeySHA256([UInt8])
  }

  /// Which keys a rule is about.
  public enum Keys: Hashable, Sendable {
    /// Exactly these; a final `*` stands for anything.
    case patterns([String])
    /// Those that the certificate's own URIs `grenache:<service>` name.
    case namedByCertificate
  }

  /// Allows some rights on some keys to some peers.
  public struct Rule: Hashable, Sendable {
    /// What logs call the rule.
    public var name: String
    /// Any of these.
    public var who: [Who]
    /// All of these.
    public var rights: Set<Right>
    /// On these.
    public var keys: Keys

    /// Makes a rule from its parts.
    public init(_ name: String, allow rights: Set<Right>, on keys: Keys, to who: [Who]) {
      self.name = name
      self.who = who
      self.rights = rights
      self.keys = keys
    }
  }

  /// What a policy says to one question.
  public enum Decision: Hashable, Sendable {
    /// The rule of that name allows it.
    case allowed(by: String)
    /// No rule allows it.
    case denied

    /// Whether it is allowed.
    public var isAllowed: Bool { self != .denied }
  }

  /// The rules, of which the first that allows something counts.
  public var rules: [Rule]

  /// A policy of these rules and no others.
  public init(_ rules: [Rule]) {
    self.rules = rules
  }

  /// Without a policy of its own: whoever the roots vouch for may look up, call and subscribe, and
  /// store values (which are known by their hash or their signature), but announce and publish only the
  /// services that its certificate names.
  public static let byCertificate = AccessPolicy([
    Rule(
      "named by the certificate", allow: [.announce, .publish], on: .namedByCertificate,
      to: [.anyone]),
    Rule(
      "open to verified peers", allow: [.lookup, .put, .call, .subscribe], on: .patterns(["*"]),
      to: [.anyone]),
  ])

  /// Whether `peer` may do that; nobody in particular may do nothing.
  public func decide(_ right: Right, on key: String, by peer: PeerIdentity?) -> Decision {
    guard let peer else { return .denied }
    for rule in rules
    where rule.rights.contains(right) && rule.keys.cover(key, of: peer)
      && rule.who.contains(where: { $0.matches(peer) })
    {
      return .allowed(by: rule.name)
    }
    return .denied
  }

  /// Whether there is a key on which a rule gives `peer` one of `rights`.
  public func allowsSomething(_ rights: Set<Right>, to peer: PeerIdentity) -> Bool {
    rules.contains { rule in
      !rule.rights.isDisjoint(with: rights) && rule.keys.coverSomething(of: peer)
        && rule.who.contains { $0.matches(peer) }
    }
  }

  /// Whether a rule allows anyone to do that with every key: its keys are `*` alone.
  public func isOpen(_ right: Right) -> Bool {
    rules.contains { rule in
      rule.rights.contains(right) && rule.who.contains(.anyone) && rule.keys == .patterns(["*"])
    }
  }
}

extension AccessPolicy.Who {
  func matches(_ peer: PeerIdentity) -> Bool {
    switch self {
    case .anyone:
      true
    case .uri(let pattern):
      peer.names.contains { name in
        if case .uri(let text) = name { KeyPattern(pattern).covers(text) } else { false }
      }
    case .dns(let pattern):
      peer.names.contains { name in
        if case .dns(let text) = name { PeerVerification.dnsMatches(pattern, text) } else { false }
      }
    case .publicKeySHA256(let digest):
      peer.publicKeySHA256 == digest
    case .issuerPublicKeySHA256(let digest):
      peer.issuerPublicKeysSHA256.contains(digest)
    }
  }
}

extension AccessPolicy.Keys {
  func coverSomething(of peer: PeerIdentity) -> Bool {
    switch self {
    case .patterns(let patterns): !patterns.isEmpty
    case .namedByCertificate: !peer.services.isEmpty
    }
  }

  func cover(_ key: String, of peer: PeerIdentity) -> Bool {
    switch self {
    case .patterns(let patterns):
      patterns.contains { KeyPattern($0).covers(key) }
    case .namedByCertificate:
      peer.names.contains { name in
        guard case .uri(let text) = name else { return false }
        return ServicePattern(uri: text)?.covers(key) ?? false
      }
    }
  }
}

/// Exactly a text, or with a final `*` everything that begins so; compared byte for byte.
private struct KeyPattern {
  private let text: String

  init(_ text: String) { self.text = text }

  func covers(_ key: String) -> Bool {
    text.utf8.last == UInt8(ascii: "*")
      ? key.utf8.starts(with: text.utf8.dropLast()) : key.utf8.elementsEqual(text.utf8)
  }
}

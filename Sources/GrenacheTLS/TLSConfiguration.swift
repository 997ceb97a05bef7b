/// A source that a program gives: equal to itself alone.
public struct TLSProvidedSource: Hashable, Sendable {
  let name: String
  let body: IdentifiedClosure<Void, [UInt8]?>
}

/// Certificates and keys, and what is asked of the peer: the one configuration that grapes, links,
/// servers and clients take.
///
/// It only says where things are; `TLSContext` loads and checks all of it at once.
public struct TLSConfiguration: Hashable, Sendable {
  /// Where certificates, keys and lists come from.
  public enum Source: Hashable, Sendable, CustomStringConvertible {
    /// A file: PEM, DER or PKCS#12.
    case file(String)
    /// PEM text itself.
    case pem(String)
    /// DER or PKCS#12 itself.
    case der([UInt8])
    /// What a URI names in a store of OpenSSL's providers, `pkcs11:…` for example.
    case store(String)
    /// What a program keeps elsewhere, made by `provided`.
    case program(TLSProvidedSource)

    /// What `body` gives each time that certificates are loaded: PEM text, DER or PKCS#12 from a vault or a
    /// certificate authority, for example; `nil` when there is nothing. After a renewal `Reload.requestAll`
    /// has it asked again; what cannot be used changes nothing.
    ///
    /// - Parameters:
    ///   - name: what errors and logs call it.
    ///   - body: called on any thread; it is not to wait for long.
    public static func provided(
      _ name: String, _ body: @escaping @Sendable () -> [UInt8]?
    ) -> Source {
      .program(TLSProvidedSource(name: name, body: IdentifiedClosure(body)))
    }

    /// The file's name, or the URI without its query, which may hold a PIN (RFC 7512 §2.3); never the
    /// content, which may be a key.
    public var description: String {
      switch self {
      case .file(let path): path
      case .pem: "PEM in memory"
      case .der: "DER in memory"
      case .store(let uri): String(uri.prefix { $0 != "?" })
      case .program(let provided): provided.name
      }
    }
  }

  /// A certificate and its key.
  public struct Identity: Hashable, Sendable {
    /// The leaf certificate and the chain above it, leaf first.
    public var certificate: Source
    /// The key of the leaf.
    public var key: Source

    /// Makes an identity from its parts.
    public init(certificate: Source, key: Source) {
      self.certificate = certificate
      self.key = key
    }
  }

  /// What a server wants of its clients.
  public enum ClientCertificates: Hashable, Sendable {
    /// Who has none is refused in the handshake.
    case required
    /// Who has one must have a good one; who has none is nobody in particular, to whom no access
    /// policy allows anything.
    case optional
    /// No client is asked: everybody is nobody in particular.
    case none
  }

  /// The leaf certificate and the chain above it, leaf first.
  public var certificate: Source
  /// The key of the leaf.
  public var key: Source
  /// The authorities that vouch for peers; `nil` for only those of the system, which
  /// `usesSystemRoots` asks for.
  public var roots: Source?
  /// Whether the authorities of the system's trust store vouch for peers, too (default: no).
  /// `SSL_CERT_FILE` and `SSL_CERT_DIR` name another store.
  public var usesSystemRoots = false
  /// Gives the passphrase of what is encrypted.
  public var passphrase: TLSPassphrase?
  /// Versions, cipher suites and groups (default `intermediate`).
  public var protocols = TLSProtocols.intermediate
  /// Whether a server asks its clients for certificates (default: they must have one).
  public var clientCertificates = ClientCertificates.required
  /// Further certificates of a server: a client that asks for a host by name (SNI) gets the first
  /// that bears the name as a DNS name, and `certificate` when none does.
  public var furtherIdentities: [Identity] = []
  /// Chooses among a server's certificates in place of that rule.
  public var identityChooser: TLSIdentityChooser?
  /// Which clients a server accepts among those whom the roots vouch for (default: all; what they
  /// may do is decided by their identity). It counts for open connections, too, after a reload.
  public var clientVerification = PeerVerification.anyPeerThatTheRootsVouchFor
  /// The status of `certificate` that a server staples: the DER of an OCSP response, which something
  /// else keeps fresh (`openssl ocsp -respout`). One that is out of date is not sent.
  public var certificateStatus: Source?
  /// What a client makes of stapled status (default: what is there must be good).
  public var stapling = TLSStapling.checkedWhenPresent
  /// Resumption of sessions; `nil` for none: every connection begins with a full handshake.
  public var sessions: TLSSessions? = TLSSessions()
  /// A file to which the secrets of all connections are appended, for looking at them with Wireshark:
  /// whoever has it reads everything. Servers, grapes and links that log keys say so when they start.
  public var insecureKeyLogFile: String?
  /// Revocation lists; with any, the peer's certificate is checked against them.
  public var revocationLists: Source?
  /// How often servers, links and grapes look whether a file has changed, and load it then
  /// (default 250 ms, at least 10 ms); `nil` for never.
  public var reloadInterval: Duration? = .milliseconds(250)
  /// How often they load everything again whether a file has changed or not: for keys and certificates
  /// in a provider's store, which nobody can watch (default: never; at least 10 ms).
  public var reloadPeriod: Duration?
  /// The folder that all of it comes from, if there is one.
  private var folder: String?

  /// From any mix of files and memory.
  public init(
    certificate: Source, key: Source, roots: Source?, revocationLists: Source? = nil
  ) {
    self.certificate = certificate
    self.key = key
    self.roots = roots
    self.revocationLists = revocationLists
  }

  /// From PEM files.
  public static func files(
    certificate: String, key: String, roots: String, revocationLists: String? = nil
  ) -> TLSConfiguration {
    TLSConfiguration(
      certificate: .file(certificate), key: .file(key), roots: .file(roots),
      revocationLists: revocationLists.map { .file($0) })
  }

  /// From a directory by convention: `cert.pem` (leaf and chain), `key.pem`, `ca.pem`, and `crl.pem`
  /// if it is there.
  public static func directory(_ path: String) -> TLSConfiguration {
    let crl = "\(path)/crl.pem"
    var configuration = TLSConfiguration.files(
      certificate: "\(path)/cert.pem", key: "\(path)/key.pem", roots: "\(path)/ca.pem",
      revocationLists: FileReader.exists(crl) ? crl : nil)
    configuration.folder = path
    return configuration
  }

  /// The same with another certificate, and only that.
  func with(_ identity: Identity) -> TLSConfiguration {
    var copy = self
    copy.certificate = identity.certificate
    copy.key = identity.key
    copy.furtherIdentities = []
    copy.certificateStatus = nil
    return copy
  }

  /// The same, with the folder's `crl.pem` if it has come since. One that has gone is missed, and
  /// does not turn the check off.
  var withPresentRevocationLists: TLSConfiguration {
    guard let folder, revocationLists == nil else { return self }
    var copy = self
    copy.revocationLists = TLSConfiguration.directory(folder).revocationLists
    return copy
  }

  /// The state of the files that it is made of, a `crl.pem` that may come included.
  package var stamps: [FileStamp?] {
    let further = furtherIdentities.flatMap { [$0.certificate, $0.key] }
    let optional = [roots, revocationLists, certificateStatus].compactMap(\.self)
    let sources = [certificate, key] + optional + further
    var paths: [String] = sources.compactMap { source in
      if case .file(let path) = source { path } else { nil }
    }
    if let folder, revocationLists == nil { paths.append("\(folder)/crl.pem") }
    if let secret = sessions?.sharedSecretFile { paths.append(secret) }
    return paths.map(FileStamp.init(path:))
  }

  /// From `GRENACHE_TLS_DIR`, or `GRENACHE_TLS_CERT`, `GRENACHE_TLS_KEY` and `GRENACHE_TLS_CA`, with
  /// `GRENACHE_TLS_CRL` beside either; `nil` when none of them is set.
  ///
  /// - Throws: `TLSConfigurationError` when only some of the three are set.
  public static func environment(
    _ variables: [String: String]
  ) throws(TLSConfigurationError) -> TLSConfiguration? {
    var configuration: TLSConfiguration
    let names = ["GRENACHE_TLS_CERT", "GRENACHE_TLS_KEY", "GRENACHE_TLS_CA"]
    let values = names.map { variables[$0] }
    if let certificate = values[0], let key = values[1], let roots = values[2] {
      configuration = .files(certificate: certificate, key: key, roots: roots)
    } else if values.contains(where: { $0 != nil }) {
      throw TLSConfigurationError(
        zip(names, values).filter { $0.1 == nil }.map { name, _ in
          TLSConfigurationError.Fault(
            source: name, reason: "is not set", remedy: "Set it to the file, or unset the others.")
        })
    } else if let directory = variables["GRENACHE_TLS_DIR"] {
      configuration = .directory(directory)
    } else {
      return nil
    }
    if let crl = variables["GRENACHE_TLS_CRL"] { configuration.revocationLists = .file(crl) }
    return configuration
  }
}

/// Everything that is wrong with a configuration, found in one go.
public struct TLSConfigurationError: Error, Hashable, Sendable, CustomStringConvertible {
  /// One thing that is wrong.
  public struct Fault: Hashable, Sendable, CustomStringConvertible {
    /// The file, or what else it came from.
    public var source: String
    /// What is wrong with it.
    public var reason: String
    /// What to do.
    public var remedy: String

    /// The three in one line.
    public var description: String { "\(source): \(reason). \(remedy)" }
  }

  /// Every fault that was found.
  public var faults: [Fault]

  init(_ faults: [Fault]) { self.faults = faults }

  /// A line for each fault.
  public var description: String {
    "the TLS configuration cannot be used:\n"
      + faults.map { "  - \($0)" }.joined(separator: "\n")
  }
}

public import ArgumentParser
internal import Foundation
public import GrenacheTLS

/// The TLS options of every command.
public struct TLSOptions: ParsableArguments, Sendable {
  /// A PEM file: the leaf and the chain above it.
  @Option(help: "PEM file with the certificate and the chain above it.", completion: .file())
  public var tlsCert: String?
  /// A PEM file: the key.
  @Option(help: "PEM file with the certificate's key.", completion: .file())
  public var tlsKey: String?
  /// A PEM file: the authorities.
  @Option(help: "PEM file with the authorities that vouch for peers.", completion: .file())
  public var tlsCa: String?
  /// A directory by convention.
  @Option(
    help: "Folder with cert.pem, key.pem, ca.pem, and crl.pem if there is one.",
    completion: .directory)
  public var tlsDir: String?
  /// A PEM file: revocation lists, which are enforced.
  @Option(
    help: "PEM file with revocation lists; peers are checked against them.", completion: .file())
  public var tlsCrl: String?
  /// A DER file: the certificate's status.
  @Option(
    help: "OCSP response (DER) about the certificate, to be stapled by servers.",
    completion: .file())
  public var tlsStatus: String?
  /// A file with a passphrase.
  @Option(help: "File with the passphrase of the key, in its first line.", completion: .file())
  public var tlsPassphraseFile: String?
  /// A file with what session tickets are sealed with.
  @Option(
    help: "File with 32 to 1024 random bytes: servers that share it resume one another's sessions.",
    completion: .file())
  public var tlsSessionSecret: String?
  /// The system's authorities.
  @Flag(help: "Trust the authorities of the system, too.")
  public var tlsSystemRoots = false
  /// No TLS 1.2.
  @Flag(help: "Only TLS 1.3.")
  public var tlsModern = false
  /// Providers of OpenSSL.
  @Option(
    help: "Load a provider of OpenSSL, pkcs11 for example; repeatable.",
    completion: .list(["default", "fips", "legacy", "pkcs11", "tpm2"]))
  public var opensslProvider: [String] = []
  /// FIPS.
  @Flag(help: "Compute with OpenSSL's FIPS provider only.")
  public var fips = false
  /// Secrets in a file.
  @Option(
    help: "Append the keys of all connections to a file: whoever has it reads everything.",
    completion: .file())
  public var insecureKeyLog: String?
  /// No TLS.
  @Flag(help: "No TLS at all: nobody proves who they are. On loopback only.")
  public var insecurePlaintext = false
  /// No TLS, and beyond loopback.
  @Flag(help: "With --insecure-plaintext: beyond loopback, too.")
  public var insecurePlaintextOnTheNetwork = false

  /// As ArgumentParser wants it.
  public init() {}

  /// The configuration, or `nil` for `--insecure-plaintext`.
  ///
  /// - Throws: `CommandFailure` with what to do when there is neither, or both.
  public func configuration() throws -> TLSConfiguration? {
    let found = try certificates()
    guard insecurePlaintext else {
      guard let found else { throw Self.missing }
      return found
    }
    guard found == nil else {
      throw CommandFailure(
        .usage,
        "--insecure-plaintext and certificates exclude each other"
          + (namesCertificates ? "." : ": unset GRENACHE_TLS_DIR, _CERT, _KEY and _CA."))
    }
    return nil
  }

  /// The same for a server, which may have certificates beside `--insecure-plaintext`; `nil` for it alone.
  public func configurationBesidePlaintext() throws -> TLSConfiguration? {
    insecurePlaintext ? try certificates() : try configuration()
  }

  private var namesCertificates: Bool {
    tlsDir != nil || tlsCert != nil || tlsKey != nil || tlsCa != nil
  }

  /// What options name, else what the environment does, if there is any.
  private func certificates() throws -> TLSConfiguration? {
    // They decide what the defaults of everything else are.
    try TLSProviders.load(opensslProvider)
    if fips { try TLSProviders.requireFIPS() }
    let environment = ProcessInfo.processInfo.environment
    guard var configuration = try named() ?? .environment(environment) else { return nil }
    let lists = tlsCrl ?? environment["GRENACHE_TLS_CRL"]
    if let lists { configuration.revocationLists = .file(lists) }
    try refine(&configuration)
    return configuration
  }

  private func named() throws -> TLSConfiguration? {
    if let tlsCert, let tlsKey, let tlsCa, tlsDir == nil {
      return .files(certificate: tlsCert, key: tlsKey, roots: tlsCa)
    }
    guard tlsCert == nil, tlsKey == nil, tlsCa == nil else {
      throw CommandFailure(
        .usage,
        tlsDir == nil
          ? "--tls-cert, --tls-key and --tls-ca belong together."
          : "--tls-dir and --tls-cert, --tls-key, --tls-ca exclude each other.")
    }
    return tlsDir.map { .directory($0) }
  }

  private func refine(_ configuration: inout TLSConfiguration) throws {
    if let tlsStatus { configuration.certificateStatus = .file(tlsStatus) }
    configuration.passphrase = try tlsPassphraseFile.map { try TLSPassphrase(firstLineOf: $0) }
    configuration.sessions?.sharedSecretFile = tlsSessionSecret
    configuration.usesSystemRoots = tlsSystemRoots
    if tlsModern { configuration.protocols = .modern }
    configuration.insecureKeyLogFile = insecureKeyLog
  }

  /// Refuses to listen in the clear beyond loopback unless that is confirmed.
  public func checkPlaintext(listeningOnLoopback isLoopback: Bool) throws {
    guard insecurePlaintext, !isLoopback, !insecurePlaintextOnTheNetwork else { return }
    throw CommandFailure(
      .usage,
      """
      --insecure-plaintext listens on loopback only. Name a loopback address, or confirm with \
      --insecure-plaintext-on-the-network that everybody who reaches the port may use it.
      """)
  }

  /// Refuses an access policy that could not be enforced.
  public func checkNoPolicy(_ file: String?) throws {
    guard insecurePlaintext, file != nil else { return }
    throw CommandFailure(
      .usage, "--access-policy needs certificates: without TLS nobody proves who they are.")
  }

  private static let missing = CommandFailure(
    .configuration,
    """
    no certificates. Do one of these:
      - name a folder:  --tls-dir FOLDER  (cert.pem, key.pem, ca.pem)
      - name the files: --tls-cert FILE --tls-key FILE --tls-ca FILE
      - set GRENACHE_TLS_DIR, or GRENACHE_TLS_CERT, GRENACHE_TLS_KEY and GRENACHE_TLS_CA
      - make some for development: grenache certs --out certs/dev, then --tls-dir certs/dev/NAME
      - do without TLS, on loopback: --insecure-plaintext
    """)
}

internal import COpenSSL

/// The certificates, keys and lists of a configuration, loaded and checked.
struct TLSMaterial {
  private(set) var chain: [OpenSSLHandle] = []
  private(set) var key: OpenSSLHandle?
  private(set) var roots: [OpenSSLHandle] = []
  private(set) var revocationLists: [OpenSSLHandle] = []
  private(set) var status: StapledStatus?
  /// What session tickets are sealed with, if it is shared.
  private(set) var sharedSecret: [UInt8]?
  private(set) var keyLog: TLSKeyLog?
  /// The subjects of the roots that have expired, for display.
  private(set) var expiredRoots: [String] = []

  private typealias Fault = TLSConfigurationError.Fault
  private var reader: TLSSourceReader

  /// Loads everything and reports every fault found.
  ///
  /// - Parameter isChecked: whether faults are thrown; tests present what they must not.
  init(_ configuration: TLSConfiguration, isChecked: Bool) throws(TLSConfigurationError) {
    reader = TLSSourceReader(passphrase: configuration.passphrase)
    chain = reader.certificates(in: configuration.certificate, "certificate")
    key = reader.key(in: configuration.key)
    if let source = configuration.roots {
      roots = reader.certificates(in: source, "certificate of an authority")
    } else if !configuration.usesSystemRoots {
      reader.faults.append(
        Fault(
          source: "roots", reason: "are not set, so that nobody could be trusted",
          remedy: "Name the authorities, or those of the system."))
    }
    if let lists = configuration.revocationLists {
      revocationLists = reader.revocationLists(in: lists)
    }
    checkKey(configuration)
    checkChain(configuration)
    checkRoots(configuration)
    checkIntervals(configuration)
    if let source = configuration.certificateStatus { loadStatus(source, isChecked: isChecked) }
    if let sessions = configuration.sessions { loadSecret(sessions) }
    if let path = configuration.insecureKeyLogFile { openKeyLog(path) }
    guard reader.faults.isEmpty || !isChecked else {
      throw TLSConfigurationError(reader.faults)
    }
  }

  /// The end of validity, in seconds since 1970, of the certificate of the chain that expires first.
  var notAfter: Int64? {
    chain.map { unsafe grenache_time(X509_get0_notAfter($0.pointer)) }.min()
  }

  /// The leaf's DNS names.
  var dnsNames: [String] {
    guard let leaf = chain.first else { return [] }
    return unsafe subjectAlternativeNames(of: leaf.pointer).compactMap { name in
      if case .dns(let text) = name { text } else { nil }
    }
  }

  private mutating func report(
    _ source: TLSConfiguration.Source, _ reason: String, _ remedy: String
  ) {
    reader.report(source, reason, remedy)
  }

  // MARK: Loading

  private mutating func loadStatus(_ source: TLSConfiguration.Source, isChecked: Bool) {
    guard let content = reader.content(of: source) else { return }
    let remedy = "Fetch it anew: openssl ocsp -issuer … -cert … -url … -respout FILE."
    guard case .der(let bytes) = content else {
      return report(source, "is no OCSP response in DER", remedy)
    }
    guard isChecked else {
      status = StapledStatus(unchecked: bytes)
      return
    }
    do {
      status = try StapledStatus(bytes, chain: chain, roots: roots, now: wallClock())
    } catch {
      report(source, "is a certificate status that \(error.reason)", remedy)
    }
  }

  private mutating func checkIntervals(_ configuration: TLSConfiguration) {
    let intervals = [configuration.reloadInterval, configuration.reloadPeriod].compactMap(\.self)
    for interval in intervals where interval < .milliseconds(10) {
      reader.faults.append(
        Fault(
          source: "reloading", reason: "every \(interval) is too often",
          remedy: "Choose at least 10 ms."))
    }
  }

  private mutating func loadSecret(_ sessions: TLSSessions) {
    if sessions.lifetime > TLSSessions.lifetimeMax || sessions.lifetime < .seconds(1) {
      reader.faults.append(
        Fault(
          source: "sessions", reason: "have a lifetime of \(sessions.lifetime)",
          remedy: "Choose one second to twelve hours."))
    }
    guard let path = sessions.sharedSecretFile else { return }
    let remedy = "Make one: (umask 077; openssl rand -out \(path) 48)."
    if FileReader.isOpenToOthers(path) {
      report(
        .file(path), "may be read by others, who could be any client with it",
        "Make another one that only this user can read: \(remedy)")
    }
    do {
      let bytes = try FileReader.read(path)
      if TLSSessions.secretBytes.contains(bytes.count) {
        sharedSecret = bytes
      } else {
        report(.file(path), "has \(bytes.count) bytes in place of 32 to 1,024", remedy)
      }
    } catch {
      report(.file(path), error.reason, remedy)
    }
  }

  private mutating func openKeyLog(_ path: String) {
    do {
      keyLog = try TLSKeyLog(path: path)
    } catch {
      report(.file(path), error.reason, "Name a file that may be written.")
    }
  }

  // MARK: Checking

  private mutating func checkKey(_ configuration: TLSConfiguration) {
    guard let leaf = chain.first, let key,
      unsafe X509_check_private_key(leaf.pointer, key.pointer) != 1
    else { return }
    ERR_clear_error()
    report(
      configuration.key, "is not the key of the certificate in \(configuration.certificate)",
      "Name the key that the certificate was issued for; the leaf comes first in its file.")
  }

  /// Peers look at the whole chain: one certificate in it that is no good is an outage.
  private mutating func checkChain(_ configuration: TLSConfiguration) {
    let source = configuration.certificate
    for (position, certificate) in chain.enumerated() {
      let which = position == 0 ? "" : "certificate \(position + 1) "
      if let (reason, remedy) = datesFault(of: certificate) {
        report(source, which + reason, remedy)
      }
      if let (reason, remedy) = strengthFault(of: certificate) {
        report(source, which + reason, remedy)
      }
    }
    for (position, pair) in zip(chain, chain.dropFirst()).enumerated() {
      checkSignature(of: pair.0, by: pair.1, position + 1, source)
    }
    ERR_clear_error()
  }

  private func datesFault(of certificate: OpenSSLHandle) -> (String, String)? {
    let now = wallClock()
    let start = unsafe grenache_time(X509_get0_notBefore(certificate.pointer))
    let end = unsafe grenache_time(X509_get0_notAfter(certificate.pointer))
    if now > end { return ("expired \(days(now - end)) ago", "Renew it.") }
    if now < start {
      return ("is not valid for another \(days(start - now))", "Set the clock, or wait.")
    }
    return nil
  }

  private func days(_ seconds: Int64) -> String {
    seconds < 86_400 ? "\(seconds / 60) minutes" : "\(seconds / 86_400) days"
  }

  /// At least 112 bits of security, OpenSSL's level 2 for the key: RSA of 2,048 bits, any P-256.
  private func strengthFault(of certificate: OpenSSLHandle) -> (String, String)? {
    guard let key = unsafe X509_get0_pubkey(certificate.pointer) else {
      ERR_clear_error()
      return ("has a key of an unknown kind", "Use ECDSA, Ed25519 or RSA.")
    }
    guard unsafe EVP_PKEY_get_security_bits(key) < 112 else { return nil }
    return (
      "has a key of \(unsafe EVP_PKEY_get_bits(key)) bits, which is too weak",
      "Use ECDSA P-256, or RSA of at least 2,048 bits."
    )
  }

  /// Each certificate of the file is to be signed by the one behind it: the name alone may be that of
  /// an authority which has another key by now.
  private mutating func checkSignature(
    of certificate: OpenSSLHandle, by issuer: OpenSSLHandle, _ position: Int,
    _ source: TLSConfiguration.Source
  ) {
    if unsafe X509_check_issued(issuer.pointer, certificate.pointer) != X509_V_OK {
      report(
        source, "certificate \(position + 1) did not issue certificate \(position)",
        "Order the file: the leaf, then each issuer, without the root.")
    } else if unsafe X509_check_ca(issuer.pointer) == 0 {
      report(
        source, "certificate \(position + 1) is not that of an authority",
        "Put the certificate there of the authority that issued the one before it.")
    } else if unsafe X509_verify(certificate.pointer, X509_get0_pubkey(issuer.pointer)) != 1 {
      report(
        source,
        "certificate \(position + 1) bears the name of the issuer of certificate \(position), "
          + "and another key than it was signed with",
        "Put the certificate there of the key that signed it.")
    }
  }

  /// Roots that have expired vouch for nobody. A bundle may hold some of them; one of nothing else
  /// would have every peer refused.
  private mutating func checkRoots(_ configuration: TLSConfiguration) {
    guard let source = configuration.roots, !configuration.usesSystemRoots, !roots.isEmpty else {
      return
    }
    let now = wallClock()
    expiredRoots = roots.filter { root in
      unsafe grenache_time(X509_get0_notAfter(root.pointer)) < now
    }.map { root in unsafe nameText(X509_get_subject_name(root.pointer)) }
    guard expiredRoots.count == roots.count else { return }
    report(
      source, "holds no authority that has not expired",
      "Put the current certificate of the authority there.")
  }
}

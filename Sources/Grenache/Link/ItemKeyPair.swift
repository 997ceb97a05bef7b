internal import GrenacheTLS

/// The key pair of the owner of mutable items (Ed25519, RFC 8032), from a file of the existing
/// command-line tools or from one that `write(to:replacing:)` has made.
///
/// Such a file holds 128 hexadecimal digits: the key as the seed expands to. Beside it is the public key,
/// 64 digits, in a file of the same name with `.pub` behind it, for others to read.
public struct ItemKeyPair: Sendable, CustomStringConvertible, CustomReflectable {
  /// 32 bytes.
  public let publicKey: [UInt8]
  private let expandedKey: [UInt8]

  /// A new key pair.
  ///
  /// - Throws: `GrenacheError` when OpenSSL cannot make one, as under FIPS.
  public init() throws(GrenacheError) {
    guard let key = Ed25519.expandedKey(seed: secureRandomBytes(Ed25519.seedBytes)) else {
      throw GrenacheError(.invalidConfiguration, "OpenSSL cannot make a key")
    }
    try self.init(expandedKey: key, from: "a new key")
  }

  /// The key pair of a file, which nobody but its owner may be able to read.
  ///
  /// - Throws: `GrenacheError` with the file's name and what is wrong with it.
  public init(file: String) throws(GrenacheError) {
    let bytes: [UInt8]
    do {
      bytes = try FileReader.readSecret(file)
    } catch {
      throw GrenacheError(.invalidConfiguration, "\(file): \(error.reason)")
    }
    let digits = String(decoding: bytes, as: UTF8.self)
      .split(whereSeparator: \.isWhitespace).joined()
    guard let key = Digest.bytes(hex: digits, count: Ed25519.expandedKeyBytes) else {
      throw GrenacheError(
        .invalidConfiguration, "\(file): is no key of \(2 * Ed25519.expandedKeyBytes) digits")
    }
    try self.init(expandedKey: key, from: file)
  }

  private init(expandedKey: [UInt8], from source: String) throws(GrenacheError) {
    // The file of the public key is not asked: a signature with a wrong one gives the secret away.
    guard let publicKey = Ed25519.publicKey(expandedKey: expandedKey) else {
      throw GrenacheError(.invalidConfiguration, "\(source): is no key of Ed25519")
    }
    self.publicKey = publicKey
    self.expandedKey = expandedKey
  }

  /// Writes the key for its owner's eyes only (mode 0600), and the public key beside it, each file as a
  /// whole or not at all. Folders that are missing are made. Of several that replace a key at the same time
  /// both files are the last one's.
  ///
  /// - Parameters:
  ///   - file: the file of the key.
  ///   - replacing: whether a key that is there is replaced. What it has signed can then be changed no
  ///     more.
  /// - Throws: `GrenacheError` when there is one and it is not to be replaced, or a file cannot be written.
  public func write(to file: String, replacing: Bool = false) throws(GrenacheError) {
    do {
      let folder = file.split(separator: "/", omittingEmptySubsequences: false).dropLast()
      if !folder.isEmpty {
        try FileWriter.makeDirectory(folder.joined(separator: "/"), mode: 0o700)
      }
      try FileWriter.write(
        Digest.hex(expandedKey), to: file, mode: 0o600, replacing: replacing)
      var published = publicKey
      while true {
        // It belongs to the key: alone it is of no use to anybody.
        try FileWriter.write(Digest.hex(published), to: "\(file).pub", mode: 0o644)
        // Somebody else may have replaced the key meanwhile: whoever writes last looks again behind that.
        guard let kept = try? ItemKeyPair(file: file), kept.publicKey != published else { return }
        published = kept.publicKey
      }
    } catch {
      throw GrenacheError(.invalidConfiguration, error.description)
    }
  }

  func sign(_ message: [UInt8]) throws(GrenacheError) -> [UInt8] {
    guard let signature = Ed25519.sign(message, expandedKey: expandedKey) else {
      throw GrenacheError(.invalidConfiguration, "OpenSSL cannot sign with the key")
    }
    return signature
  }

  /// The public key, and nothing of the private one.
  public var description: String { "Ed25519 \(Digest.hex(publicKey))" }

  /// The same, for whoever prints all that there is.
  public var customMirror: Mirror { Mirror(self, children: ["publicKey": publicKey]) }
}

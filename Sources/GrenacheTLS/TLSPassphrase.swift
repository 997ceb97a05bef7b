/// Gives passphrases of encrypted keys and PKCS#12 files.
public struct TLSPassphrase: Hashable, Sendable, CustomStringConvertible {
  private let closure: IdentifiedClosure<TLSConfiguration.Source, String?>

  /// Asked each time that something encrypted is loaded, with where it comes from; `nil` gives up.
  public init(_ body: @escaping @Sendable (TLSConfiguration.Source) -> String?) {
    closure = IdentifiedClosure(body)
  }

  /// The first line of a file, read each time that it is asked for.
  ///
  /// - Throws: `TLSConfigurationError` when the file cannot be read now.
  public init(firstLineOf file: String) throws(TLSConfigurationError) {
    do {
      _ = try FileReader.read(file)
    } catch {
      throw TLSConfigurationError([
        TLSConfigurationError.Fault(
          source: file, reason: error.reason, remedy: "Name a readable file with the passphrase.")
      ])
    }
    self.init { _ in
      let line = (try? FileReader.read(file))?.split(
        separator: UInt8(ascii: "\n"), maxSplits: 1, omittingEmptySubsequences: false
      ).first
      return line.map { String(decoding: $0, as: UTF8.self) }
    }
  }

  func callAsFunction(_ source: TLSConfiguration.Source) -> String? { closure(source) }

  /// Never the passphrase.
  public var description: String { "passphrase" }
}

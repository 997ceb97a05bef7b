/// Gives passphrases of encrypted keys and PKCS#12 files.
public struct TLSPassphrase: Hashable, Sendable, CustomStringConvertible {
  private let closure: IdentifiedClosure<TLSConfiguration.Source, String?>

  /// Asked each time that something encrypted is loaded, with where it comes from; `nil` gives up.
  public init(_ body: @escaping @Sendable (TLSConfiguration.Source) -> String?) {
    closure = IdentifiedClosure(body)
  }

  func callAsFunction(_ source: TLSConfiguration.Source) -> String? { closure(source) }

  /// Never the passphrase.
  public var description: String { "passphrase" }
}

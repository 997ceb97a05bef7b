package import GrenacheIO

/// Where plaintext may be listened for: on loopback, unless its owner has confirmed in so many words that
/// everybody who reaches the port may use it.
package enum InsecurePlaintext {
  /// Why nobody listens in the clear at `address`; `nil` where that is allowed.
  package static func refusal(
    at address: SocketAddress, isConfirmed: Bool
  ) -> String? {
    guard !isConfirmed, !address.isLoopback else { return nil }
    return
      "plaintext is listened for on loopback only, not at \(address): name a loopback address, or "
      + "set allowsInsecurePlaintextOnTheNetwork, after which everybody who reaches the port may use it"
  }
}

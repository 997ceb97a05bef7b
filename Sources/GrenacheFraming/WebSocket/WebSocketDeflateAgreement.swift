/// What both ends have agreed upon for permessage-deflate (RFC 7692 §7.1).
package struct WebSocketDeflateAgreement: Hashable, Sendable {
  package var serverNoContextTakeover = false
  package var clientNoContextTakeover = false
  package var serverMaxWindowBits = 15
  package var clientMaxWindowBits = 15

  package init() {}

  /// The answer to the first offer among `extensions` that is valid and can be kept; `nil` when there is
  /// none, and the connection goes on without.
  static func answer(
    to extensions: [WebSocketExtension], with options: WebSocketDeflate
  ) -> (agreement: WebSocketDeflateAgreement, value: String)? {
    for element in extensions where element.name == extensionName {
      if let offer = Parameters(element, isOffer: true) { return accept(offer, options) }
    }
    return nil
  }

  /// What a client offers.
  static func offer(_ options: WebSocketDeflate) -> String {
    var parameters = Parameters()
    parameters.serverNoContextTakeover = !options.keepsContext
    parameters.clientNoContextTakeover = !options.keepsContext
    if options.windowBitsMax < 15 { parameters.serverMaxWindowBits = options.windowBitsMax }
    parameters.clientMaxWindowBits =
      options.windowBitsMax < 15 ? .bits(options.windowBitsMax) : .any
    return parameters.value
  }

  /// What the server's answer to `offer(options)` says; `nil` when it may not be answered so (§7.1, and
  /// §5.1 for the client's duty to fail).
  init?(answer element: WebSocketExtension, to options: WebSocketDeflate) {
    guard element.name == Self.extensionName, let answer = Parameters(element, isOffer: false)
    else {
      return nil
    }
    // What was asked for must have been granted.
    guard options.keepsContext || answer.serverNoContextTakeover else { return nil }
    serverNoContextTakeover = answer.serverNoContextTakeover
    clientNoContextTakeover = answer.clientNoContextTakeover || !options.keepsContext
    serverMaxWindowBits = answer.serverMaxWindowBits ?? 15
    guard serverMaxWindowBits <= options.windowBitsMax else { return nil }
    clientMaxWindowBits = options.windowBitsMax
    if case .bits(let bits) = answer.clientMaxWindowBits {
      clientMaxWindowBits = min(bits, options.windowBitsMax)
    }
  }

  private init(_ answer: Parameters) {
    serverNoContextTakeover = answer.serverNoContextTakeover
    clientNoContextTakeover = answer.clientNoContextTakeover
    serverMaxWindowBits = answer.serverMaxWindowBits ?? 15
    if case .bits(let bits) = answer.clientMaxWindowBits { clientMaxWindowBits = bits }
  }

  private static let extensionName = "permessage-deflate"

  private static func accept(
    _ offer: Parameters, _ options: WebSocketDeflate
  ) -> (agreement: WebSocketDeflateAgreement, value: String) {
    var answer = Parameters()
    answer.serverNoContextTakeover = offer.serverNoContextTakeover || !options.keepsContext
    answer.clientNoContextTakeover = offer.clientNoContextTakeover || !options.keepsContext
    let serverBits = min(offer.serverMaxWindowBits ?? 15, options.windowBitsMax)
    if serverBits < 15 || offer.serverMaxWindowBits != nil {
      answer.serverMaxWindowBits = serverBits
    }
    // Only a client that says that it knows the parameter may be given it (§7.1.2.2).
    switch offer.clientMaxWindowBits {
    case .none: break
    case .any:
      if options.windowBitsMax < 15 { answer.clientMaxWindowBits = .bits(options.windowBitsMax) }
    case .bits(let bits): answer.clientMaxWindowBits = .bits(min(bits, options.windowBitsMax))
    }
    return (WebSocketDeflateAgreement(answer), answer.value)
  }
}

/// The parameters of one offer or answer.
private struct Parameters {
  enum ClientBits: Hashable {
    case none
    /// The client leaves it to the server; offers only.
    case any
    case bits(Int)
  }
  var serverNoContextTakeover = false
  var clientNoContextTakeover = false
  var serverMaxWindowBits: Int?
  var clientMaxWindowBits = ClientBits.none

  init() {}

  /// `nil` for an unknown or repeated parameter, or a value that it may not have.
  init?(_ element: WebSocketExtension, isOffer: Bool) {
    var seen: Set<String> = []
    for parameter in element.parameters {
      guard seen.insert(parameter.name).inserted, take(parameter, isOffer: isOffer) else {
        return nil
      }
    }
  }

  private mutating func take(
    _ parameter: WebSocketExtension.Parameter, isOffer: Bool
  ) -> Bool {
    switch (parameter.name, parameter.value) {
    case ("server_no_context_takeover", nil):
      serverNoContextTakeover = true
    case ("client_no_context_takeover", nil):
      clientNoContextTakeover = true
    case ("server_max_window_bits", let value?):
      serverMaxWindowBits = Self.bits(value)
      return serverMaxWindowBits != nil
    case ("client_max_window_bits", nil):
      clientMaxWindowBits = .any
      return isOffer
    case ("client_max_window_bits", let value?):
      guard let bits = Self.bits(value) else { return false }
      clientMaxWindowBits = .bits(bits)
    default:
      return false
    }
    return true
  }

  /// 8 to 15 without leading zeros (§7.1.2.1).
  private static func bits(_ value: String) -> Int? {
    guard let bits = Int(value), (8...15).contains(bits), value == "\(bits)" else { return nil }
    return bits
  }

  var value: String {
    var parts = ["permessage-deflate"]
    if serverNoContextTakeover { parts.append("server_no_context_takeover") }
    if clientNoContextTakeover { parts.append("client_no_context_takeover") }
    if let serverMaxWindowBits { parts.append("server_max_window_bits=\(serverMaxWindowBits)") }
    switch clientMaxWindowBits {
    case .none: break
    case .any: parts.append("client_max_window_bits")
    case .bits(let bits): parts.append("client_max_window_bits=\(bits)")
    }
    return parts.joined(separator: "; ")
  }
}

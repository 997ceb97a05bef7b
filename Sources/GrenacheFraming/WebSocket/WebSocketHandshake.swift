/// What the opening handshake came to beside the upgrade.
package struct WebSocketAgreement: Hashable, Sendable {
  package var deflate: WebSocketDeflateAgreement?
  package var subprotocol: String?

  package init() {}
}

/// The server's side of the opening handshake (RFC 6455 §4.2).
package enum WebSocketServerHandshake {
  package enum Outcome: Hashable, Sendable {
    /// Answer 101 with these fields.
    case accept(HTTPFields, WebSocketAgreement)
    case reject(HTTPStatus, HTTPFields)
  }

  /// The versions that are spoken: 13, and 8, whose frames are the same and which existing servers
  /// accept.
  static let versions = ["13", "8"]

  /// Decides on a request that asks for an upgrade to WebSocket. What a client offers and the options do
  /// not have is passed over (§4.2.2).
  ///
  /// - Parameter sha1: SHA-1 of bytes.
  package static func evaluate(
    method: HTTPMethod, fields: HTTPFields, options: WebSocketOptions = WebSocketOptions(),
    sha1: ([UInt8]) -> [UInt8]
  ) -> Outcome {
    guard method == .get else { return .reject(.badRequest, []) }
    guard let version = fields["Sec-WebSocket-Version"], versions.contains(version) else {
      let fields: HTTPFields = [
        ("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket"), ("Connection", "Upgrade"),
      ]
      return .reject(.upgradeRequired, fields)
    }
    guard let key = fields["Sec-WebSocket-Key"], Base64.decodedCount(key) == 16 else {
      return .reject(.badRequest, [])
    }
    var answer: HTTPFields = [
      ("Upgrade", "websocket"), ("Connection", "Upgrade"),
      ("Sec-WebSocket-Accept", WebSocketAccept.value(for: key, sha1: sha1)),
    ]
    guard let agreement = negotiate(fields, options, &answer) else {
      return .reject(.badRequest, [])
    }
    return .accept(answer, agreement)
  }

  /// `nil` for offers that do not follow the grammar, which fail the handshake (§9.1).
  private static func negotiate(
    _ fields: HTTPFields, _ options: WebSocketOptions, _ answer: inout HTTPFields
  ) -> WebSocketAgreement? {
    var agreement = WebSocketAgreement()
    if let offered = fields["Sec-WebSocket-Protocol"] {
      guard let names = WebSocketSubprotocols.parse(offered) else { return nil }
      agreement.subprotocol = options.subprotocols.first(where: names.contains)
      if let chosen = agreement.subprotocol { answer.append("Sec-WebSocket-Protocol", chosen) }
    }
    if let offered = fields["Sec-WebSocket-Extensions"] {
      guard let extensions = WebSocketExtension.parse(offered) else { return nil }
      if let deflate = options.deflate,
        let chosen = WebSocketDeflateAgreement.answer(to: extensions, with: deflate)
      {
        agreement.deflate = chosen.agreement
        answer.append("Sec-WebSocket-Extensions", chosen.value)
      }
    }
    return agreement
  }
}

/// The client's side of the opening handshake (RFC 6455 §4.1).
package struct WebSocketClientHandshake: Hashable, Sendable {
  private let key: String
  private let options: WebSocketOptions

  /// - Parameter nonce: 16 random bytes.
  package init(nonce: [UInt8], options: WebSocketOptions = WebSocketOptions()) {
    key = Base64.encode(nonce)
    self.options = options
  }

  /// The fields of the request, beside `Host`.
  package var fields: HTTPFields {
    var fields: HTTPFields = [
      ("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"),
      ("Sec-WebSocket-Key", key),
    ]
    if !options.subprotocols.isEmpty {
      fields.append("Sec-WebSocket-Protocol", options.subprotocols.joined(separator: ", "))
    }
    if let deflate = options.deflate {
      fields.append("Sec-WebSocket-Extensions", WebSocketDeflateAgreement.offer(deflate))
    }
    return fields
  }

  /// Why the server did not upgrade.
  package struct Refusal: Error, Hashable, Sendable {
    package var message: String
  }

  /// Checks the answer.
  package func validate(
    status: HTTPStatus, fields: HTTPFields, sha1: ([UInt8]) -> [UInt8]
  ) throws(Refusal) -> WebSocketAgreement {
    guard status == .switchingProtocols else {
      throw Refusal(message: "the server answered \(status) instead of upgrading")
    }
    guard fields["Upgrade"]?.equalsIgnoringCase("websocket") == true,
      fields.has("upgrade", in: "Connection")
    else {
      throw Refusal(message: "the server switched to something else than WebSocket")
    }
    guard fields["Sec-WebSocket-Accept"] == WebSocketAccept.value(for: key, sha1: sha1) else {
      throw Refusal(message: "the server's Sec-WebSocket-Accept does not match the key")
    }
    var agreement = WebSocketAgreement()
    if let chosen = fields["Sec-WebSocket-Protocol"] {
      guard options.subprotocols.contains(chosen) else {
        throw Refusal(message: "the server chose a subprotocol that was not offered")
      }
      agreement.subprotocol = chosen
    }
    if let chosen = fields["Sec-WebSocket-Extensions"] {
      agreement.deflate = try deflateAgreement(chosen)
    }
    return agreement
  }

  private func deflateAgreement(_ chosen: String) throws(Refusal) -> WebSocketDeflateAgreement {
    guard let extensions = WebSocketExtension.parse(chosen), extensions.count == 1,
      let deflate = options.deflate,
      let agreement = WebSocketDeflateAgreement(answer: extensions[0], to: deflate)
    else {
      throw Refusal(message: "the server chose an extension that was not offered so: \(chosen)")
    }
    return agreement
  }
}

/// The list of subprotocols (RFC 6455 §4.1): tokens, each once.
enum WebSocketSubprotocols {
  static func parse(_ value: String) -> [String]? {
    var cursor = HTTPTextCursor(value)
    var names: [String] = []
    repeat {
      cursor.skipSpaces()
      guard let name = cursor.token(), !names.contains(name) else { return nil }
      names.append(name)
      guard names.count <= namesMax else { return nil }
      cursor.skipSpaces()
    } while cursor.skip(comma)
    return cursor.isAtEnd ? names : nil
  }

  /// More names than this are nobody's: comparing each with each must stay cheap.
  private static let namesMax = 64
}

/// `Sec-WebSocket-Accept` (RFC 6455 §1.3).
enum WebSocketAccept {
  static func value(for key: String, sha1: ([UInt8]) -> [UInt8]) -> String {
    Base64.encode(sha1(Array((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8)))
  }
}

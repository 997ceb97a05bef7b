/// The server's side of the opening handshake (RFC 6455 §4.2).
package enum WebSocketServerHandshake {
  package enum Outcome: Hashable, Sendable {
    /// Answer 101 with these fields.
    case accept(HTTPFields)
    case reject(HTTPStatus, HTTPFields)
  }

  /// The versions that are spoken: 13, and 8, whose frames are the same and which existing servers
  /// accept.
  static let versions = ["13", "8"]

  /// Decides on a request that asks for an upgrade to WebSocket.
  ///
  /// Subprotocols and extensions are not negotiated: none is spoken, and a client that offers some
  /// goes on without (§4.2.2).
  ///
  /// - Parameter sha1: SHA-1 of bytes.
  package static func evaluate(
    method: HTTPMethod, fields: HTTPFields, sha1: ([UInt8]) -> [UInt8]
  ) -> Outcome {
    guard method == .get else { return .reject(.badRequest, []) }
    guard let version = fields["Sec-WebSocket-Version"], versions.contains(version) else {
      let fields: HTTPFields = [
        ("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket"),
      ]
      return .reject(.upgradeRequired, fields)
    }
    guard let key = fields["Sec-WebSocket-Key"], Base64.decodedCount(key) == 16 else {
      return .reject(.badRequest, [])
    }
    return .accept([
      ("Upgrade", "websocket"), ("Connection", "Upgrade"),
      ("Sec-WebSocket-Accept", WebSocketAccept.value(for: key, sha1: sha1)),
    ])
  }
}

/// The client's side of the opening handshake (RFC 6455 §4.1).
package struct WebSocketClientHandshake: Hashable, Sendable {
  private let key: String

  /// - Parameter nonce: 16 random bytes.
  package init(nonce: [UInt8]) {
    key = Base64.encode(nonce)
  }

  /// The fields of the request, beside `Host`.
  package var fields: HTTPFields {
    [
      ("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"),
      ("Sec-WebSocket-Key", key),
    ]
  }

  /// Why the server did not upgrade.
  package struct Refusal: Error, Hashable, Sendable {
    package var message: String
  }

  /// Checks the answer.
  package func validate(
    status: HTTPStatus, fields: HTTPFields, sha1: ([UInt8]) -> [UInt8]
  ) throws(Refusal) {
    guard status == .switchingProtocols else {
      throw Refusal(message: "the server answered \(status) instead of upgrading")
    }
    guard fields.has("websocket", in: "Upgrade"), fields.has("upgrade", in: "Connection") else {
      throw Refusal(message: "the server switched to something else than WebSocket")
    }
    guard fields["Sec-WebSocket-Accept"] == WebSocketAccept.value(for: key, sha1: sha1) else {
      throw Refusal(message: "the server's Sec-WebSocket-Accept does not match the key")
    }
    guard fields["Sec-WebSocket-Extensions"] == nil, fields["Sec-WebSocket-Protocol"] == nil else {
      throw Refusal(message: "the server chose an extension or subprotocol that was not offered")
    }
  }
}

/// `Sec-WebSocket-Accept` (RFC 6455 §1.3).
enum WebSocketAccept {
  static func value(for key: String, sha1: ([UInt8]) -> [UInt8]) -> String {
    Base64.encode(sha1(Array((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8)))
  }
}

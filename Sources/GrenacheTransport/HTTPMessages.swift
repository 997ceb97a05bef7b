package import GrenacheFraming
package import GrenacheIO
package import GrenacheTLS

/// A request as a server's handler sees it.
package struct HTTPServerRequest: Sendable {
  package var method: HTTPMethod
  /// The request target as it was sent (RFC 9112 §3.2).
  package var target: String
  package var fields: HTTPFields
  package var body: [UInt8]
  /// Who asks; `nil` without TLS or certificate.
  package var identity: PeerIdentity?
  package var remoteAddress: SocketAddress
  package var localAddress: SocketAddress?
}

/// A server's answer. `Date`, `Connection`, `Keep-Alive` and `Content-Length` are added.
package struct HTTPServerResponse: Sendable {
  package var status: HTTPStatus
  package var fields: HTTPFields
  package var body: [UInt8]
  /// Closes the connection after this answer.
  package var closesConnection = false

  package init(_ status: HTTPStatus, fields: HTTPFields = HTTPFields(), body: [UInt8] = []) {
    self.status = status
    self.fields = fields
    self.body = body
  }
}

/// A client's request. `Host`, `Connection` and `Content-Length` are added.
package struct HTTPClientRequest: Sendable {
  package var method: HTTPMethod
  package var target: String
  package var fields: HTTPFields
  package var body: [UInt8]

  package init(
    _ method: HTTPMethod, _ target: String, fields: HTTPFields = HTTPFields(), body: [UInt8] = []
  ) {
    self.method = method
    self.target = target
    self.fields = fields
    self.body = body
  }
}

/// A server's whole answer as a client sees it.
package struct HTTPClientResponse: Sendable {
  package var status: HTTPStatus
  package var fields: HTTPFields
  package var body: [UInt8]
  /// Who answered; `nil` without TLS.
  package var identity: PeerIdentity?
  /// What the connection negotiated; `nil` without TLS.
  package var negotiated: TLSNegotiation?
}

package import GrenacheTLS

/// What a server with `here` knows of a client with `peer`, after a handshake in memory.
package func peerIdentity(
  of peer: TLSContext, seenBy here: TLSContext
) throws -> PeerIdentity? {
  let windows = (TLSWindow(), TLSWindow())
  let client = try TLSEngine(
    context: peer, role: .client(serverName: nil, verification: .anyPeerThatTheRootsVouchFor),
    window: windows.0)
  let server = try TLSEngine(context: here, role: .server, window: windows.1)
  var toClient: [UInt8] = []
  for _ in 0..<4 {
    let toServer = try step(client, windows.0, toClient)
    toClient = try step(server, windows.1, toServer)
  }
  return server.peerIdentity
}

/// Gives an engine what has come and takes what it wants to send.
private func step(_ engine: TLSEngine, _ window: TLSWindow, _ input: [UInt8]) throws -> [UInt8] {
  var output: [UInt8] = []
  try input.withUnsafeBytes { bytes in
    window.lend(bytes)
    _ = try engine.handshake()
    window.takeBack()
  }
  window.withOutput { output = Array($0) }
  window.dropOutput()
  return output
}

@testable import GrenacheTLS

/// A client's and a server's engine with two queues of bytes between them.
final class EnginePair {
  /// One end: its engine, its window, and what has come for it.
  final class End {
    let engine: TLSEngine
    let window = TLSWindow()
    var inbox: [UInt8] = []
    var failure: TLSError?
    var isDone = false
    var received: [UInt8] = []
    var isClosed = false

    init(_ context: TLSContext, _ role: TLSEngine.Role) throws {
      engine = try TLSEngine(context: context, role: role, window: window)
    }

    /// Takes what waits to be sent.
    func takeOutput() -> [UInt8] {
      var bytes: [UInt8] = []
      window.withOutput { bytes = Array($0) }
      window.dropOutput()
      return bytes
    }

    /// Takes the bytes in, as much as the state allows.
    func feed(_ bytes: [UInt8]) {
      guard failure == nil else { return }
      bytes.withUnsafeBytes { input in
        window.lend(input)
        do throws(TLSError) {
          if !isDone { isDone = try engine.handshake() == .done }
          if isDone { try readAll() }
        } catch {
          failure = error
        }
        window.takeBack()
      }
    }

    private func readAll() throws(TLSError) {
      var buffer = [UInt8](repeating: 0, count: 20_000)
      while true {
        let room = buffer.withUnsafeMutableBytes { $0 }
        switch try engine.read(into: room) {
        case .bytes(let count): received += buffer[..<count]
        case .wantsInput: return
        case .closed:
          isClosed = true
          return
        }
      }
    }

    func send(_ bytes: [UInt8]) throws {
      try bytes.withUnsafeBytes { bytes in try engine.write(bytes) }
    }
  }

  let client: End
  let server: End

  init(
    client: TLSConfiguration, server: TLSConfiguration,
    verification: PeerVerification = .anyPeerThatTheRootsVouchFor, serverName: String? = nil
  ) throws {
    self.client = try End(
      TLSContext(client), .client(serverName: serverName, verification: verification))
    self.server = try End(TLSContext(server), .server)
  }

  init(client: End, server: End) {
    self.client = client
    self.server = server
  }

  init(client: TLSContext, server: TLSContext) throws {
    self.client = try End(
      client, .client(serverName: nil, verification: .anyPeerThatTheRootsVouchFor))
    self.server = try End(server, .server)
  }

  /// Exchanges bytes, in pieces of `piece`, until nobody has any more to say.
  func run(piece: Int = .max) {
    client.feed([])
    var isMoving = true
    while isMoving {
      isMoving = false
      for (from, to) in [(client, server), (server, client)] {
        let bytes = from.takeOutput()
        var index = 0
        while index < bytes.count {
          let end = piece < bytes.count - index ? index + piece : bytes.count
          to.feed(Array(bytes[index..<end]))
          index = end
          isMoving = true
        }
      }
    }
  }
}

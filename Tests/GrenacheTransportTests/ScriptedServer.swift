import GrenacheIO

/// A plaintext server that answers each request with the next of its lines, whatever was asked.
struct ScriptedServer: Sendable {
  enum Line: Sendable {
    case says(String)
    case saysAndCloses(String)
    case saysNothing
  }

  let address: SocketAddress
  private let state: LoopBound<State>

  init(_ lines: [Line]) async throws {
    let loop = try EventLoopGroup.shared().next()
    state = try await loop.run { loop in LoopBound(try State(lines, on: loop), on: loop) }
    let state = state
    address = await loop.run { loop in state.get(on: loop).address }
  }

  /// The connections accepted and the requests answered so far.
  var counts: (connections: Int, requests: Int) {
    get async {
      let state = state
      return await state.loop.run { loop in
        (state.get(on: loop).sockets.count, state.get(on: loop).answered)
      }
    }
  }

  /// The connections that the client has not closed.
  var openConnections: Int {
    get async {
      let state = state
      return await state.loop.run { loop in
        state.get(on: loop).sockets.count { !$0.isClosed }
      }
    }
  }

  func stop() async {
    let state = state
    await state.loop.run { loop in state.get(on: loop).stop(on: loop) }
  }

  private final class State: ListenSocketDelegate {
    let listener: ListenSocket
    let address: SocketAddress
    private let lines: [Line]
    var answered = 0
    var sockets: [StreamSocket] = []

    init(_ lines: [Line], on loop: isolated EventLoop) throws {
      self.lines = lines
      listener = try ListenSocket(.loopback(port: 0))
      address = listener.localAddress ?? .loopback(port: 0)
      try listener.start(self, on: loop)
    }

    func accepted(_ descriptor: Int32, from remote: SocketAddress, on loop: isolated EventLoop) {
      let socket = StreamSocket(descriptor: descriptor, remoteAddress: remote)
      sockets.append(socket)
      socket.delegate = Connection(socket, self)
      try? socket.setReading(true, on: loop)
    }

    func answer(_ socket: StreamSocket, on loop: isolated EventLoop) {
      guard answered < lines.count else { return socket.close(on: loop) }
      let line = lines[answered]
      answered += 1
      switch line {
      case .says(let text):
        Array(text.utf8).withUnsafeBytes { try? socket.send($0, on: loop) }
      case .saysAndCloses(let text):
        Array(text.utf8).withUnsafeBytes { try? socket.send($0, on: loop) }
        socket.close(on: loop)
      case .saysNothing:
        break
      }
    }

    func stop(on loop: isolated EventLoop) {
      listener.stop(on: loop)
      for socket in sockets { socket.close(on: loop) }
    }
  }

  private final class Connection: StreamSocketDelegate {
    unowned let socket: StreamSocket
    let state: State
    var received: [UInt8] = []

    init(_ socket: StreamSocket, _ state: State) {
      self.socket = socket
      self.state = state
    }

    func socketReadable(on loop: isolated EventLoop) {
      var buffer = [UInt8](repeating: 0, count: 1 << 16)
      let outcome = buffer.withUnsafeMutableBytes { try? socket.receive(into: $0) }
      guard case .bytes(let count) = outcome else {
        if outcome != .wouldBlock { socket.close(on: loop) }
        return
      }
      received += buffer[..<count]
      while let end = received.firstRange(of: Array("\r\n\r\n".utf8)) {
        received.removeSubrange(..<end.upperBound)
        state.answer(socket, on: loop)
      }
    }

    func socketDrained(on loop: isolated EventLoop) {}
    func socketTurnEnded(on loop: isolated EventLoop) {}
    func socketFailed(_ error: SystemCallError, on loop: isolated EventLoop) {
      socket.close(on: loop)
    }
  }
}

import Glibc
import GrenacheIO

/// A connection that says exactly what a test wants, and waits at most 10 s for an answer.
final class PlainConnection {
  private let descriptor: CInt
  private var received: [UInt8] = []

  struct Answer {
    var status: Int
    var body: String
    /// Whether the server says that the connection stays.
    var isKept: Bool
  }

  init(_ address: SocketAddress) throws {
    descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
    guard case .ipv4(let a, let b, let c, let d) = address.host else { throw TimedOut() }
    var time = timeval(tv_sec: 10, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    var name = sockaddr_in()
    name.sin_family = sa_family_t(AF_INET)
    name.sin_port = address.port.bigEndian
    name.sin_addr.s_addr =
      (UInt32(a) << 24 | UInt32(b) << 16 | UInt32(c) << 8 | UInt32(d)).bigEndian
    let result = withUnsafePointer(to: &name) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard result == 0 else { throw TimedOut() }
  }

  deinit { close(descriptor) }

  func send(_ text: String) throws { try send(Array(text.utf8)) }

  func send(_ bytes: [UInt8]) throws {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL))
      }
      guard count > 0 else { throw TimedOut() }
      rest = rest.dropFirst(count)
    }
  }

  /// The head of a POST, with further lines.
  func sendHead(_ path: String, _ lines: String...) throws {
    let all = ["POST \(path) HTTP/1.1", "Host: x"] + lines
    try send(all.map { "\($0)\r\n" }.joined() + "\r\n")
  }

  /// Posts a body, with its length or in chunks, and waits for the answer.
  func post(_ body: [UInt8], _ path: String, isChunked: Bool = false) throws -> Answer {
    if isChunked {
      try sendHead(path, "Transfer-Encoding: chunked")
      for start in stride(from: 0, to: body.count, by: 5_000) {
        let part = body[start..<min(start + 5_000, body.count)]
        try send("\(String(part.count, radix: 16))\r\n")
        try send(Array(part) + Array("\r\n".utf8))
      }
      try send("0\r\n\r\n")
    } else {
      try sendHead(path, "Content-Length: \(body.count)")
      try send(body)
    }
    return try answer()
  }

  /// The next answer.
  func answer() throws -> Answer {
    let end = Array("\r\n\r\n".utf8)
    var head: Range<Int>?
    while head == nil {
      head = received.firstRange(of: end)
      if head == nil { try receive() }
    }
    guard let head else { throw TimedOut() }
    let text = String(decoding: received[..<head.lowerBound], as: UTF8.self)
    let lines = text.split(separator: "\r\n").map { $0.lowercased() }
    let length = lines.first { $0.hasPrefix("content-length:") }?.split(separator: " ").last
    let count = length.flatMap { Int($0) } ?? 0
    while received.count < head.upperBound + count { try receive() }
    let body = received[head.upperBound..<(head.upperBound + count)]
    let answer = Answer(
      status: Int(lines.first?.split(separator: " ").dropFirst().first ?? "") ?? 0,
      body: String(decoding: body, as: UTF8.self),
      isKept: lines.contains("connection: keep-alive"))
    received.removeFirst(head.upperBound + count)
    return answer
  }

  private func receive() throws {
    var buffer = [UInt8](repeating: 0, count: 4_096)
    let count = recv(descriptor, &buffer, buffer.count, 0)
    guard count > 0 else { throw TimedOut() }
    received += buffer[..<count]
  }
}

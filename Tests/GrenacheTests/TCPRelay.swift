import Foundation
import Glibc
import GrenacheTransport
import Synchronization

/// A second address of a server, which can be taken away: passes bytes on, both ways.
final class TCPRelay: Sendable {
  let endpoint: Endpoint
  private let target: UInt16
  private let listener: Int32
  private let open = Mutex<[Int32]>([])

  /// - Parameter port: that of one that was stopped; 0 for one of the kernel's choice.
  init(to target: Endpoint, port: UInt16 = 0) throws {
    self.target = target.port
    listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = Self.loopback(port)
    var one: Int32 = 1
    _ = setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, 4)
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let listener = listener
    let isListening = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
        bind(listener, address, size) == 0 && listen(listener, 16) == 0
          && getsockname(listener, address, &size) == 0
      }
    }
    guard isListening else { throw CancellationError() }
    endpoint = Endpoint(host: "127.0.0.1", port: UInt16(bigEndian: address.sin_port))
    Thread.detachNewThread { self.accept() }
  }

  /// Nobody gets through any more, whether they are connected or not.
  func stop() {
    _ = shutdown(listener, Int32(SHUT_RDWR))
    open.withLock { for descriptor in $0 { _ = shutdown(descriptor, Int32(SHUT_RDWR)) } }
  }

  /// Who is connected is reset; others get through.
  func reset() {
    open.withLock { descriptors in
      for descriptor in descriptors {
        var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
        let size = socklen_t(MemoryLayout<linger>.size)
        _ = setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, size)
      }
      // The end of the far side has both closed, which resets them.
      for index in stride(from: 1, to: descriptors.count, by: 2) {
        _ = shutdown(descriptors[index], Int32(SHUT_RDWR))
      }
    }
  }

  private static func loopback(_ port: UInt16) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    return address
  }

  private func accept() {
    while case let near = Glibc.accept(listener, nil, nil), near >= 0 {
      let far = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
      var address = Self.loopback(target)
      let isConnected = withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
          connect(far, address, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
        }
      }
      guard isConnected else {
        close(near)
        close(far)
        continue
      }
      open.withLock { $0 += [near, far] }
      Thread.detachNewThread {
        while Self.pass(near, far) {}
        self.open.withLock { $0.removeAll { $0 == near || $0 == far } }
        close(near)
        close(far)
      }
    }
    close(listener)
  }

  /// Passes on what has come on either side, once something has.
  private static func pass(_ near: Int32, _ far: Int32) -> Bool {
    var waiting = [near, far].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
    guard poll(&waiting, 2, -1) > 0 else { return false }
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    for (source, target) in [(0, far), (1, near)] where waiting[source].revents != 0 {
      let count = read(waiting[source].fd, &buffer, buffer.count)
      guard count > 0 else { return false }
      var sent = 0
      while sent < count {
        let some = buffer[sent..<count].withUnsafeBytes {
          send(target, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
        }
        guard some > 0 else { return false }
        sent += some
      }
    }
    return true
  }
}

internal import Glibc

/// The addresses of this machine's network interfaces.
package enum NetworkInterfaces {
  /// All of them at this moment, loopback included; none when the system does not tell.
  package static func addresses() -> [SocketAddress.Host] {
    var list: UnsafeMutablePointer<ifaddrs>?
    guard unsafe getifaddrs(&list) == 0 else { return [] }
    defer { unsafe freeifaddrs(list) }
    var hosts: [SocketAddress.Host] = []
    var entry = unsafe list
    while let interface = unsafe entry {
      if let host = unsafe host(interface.pointee.ifa_addr), !hosts.contains(host) {
        hosts.append(host)
      }
      unsafe entry = interface.pointee.ifa_next
    }
    return hosts
  }

  private static func host(_ source: UnsafeMutablePointer<sockaddr>?) -> SocketAddress.Host? {
    guard let source = unsafe source else { return nil }
    let size: Int
    switch Int32(unsafe source.pointee.sa_family) {
    case AF_INET: size = MemoryLayout<sockaddr_in>.size
    case AF_INET6: size = MemoryLayout<sockaddr_in6>.size
    default: return nil
    }
    var storage = sockaddr_storage()
    unsafe withUnsafeMutableBytes(of: &storage) { target in
      unsafe target.copyMemory(from: UnsafeRawBufferPointer(start: source, count: size))
    }
    return SocketAddress(storage)?.host
  }
}

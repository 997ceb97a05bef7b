import Grenache

/// Stores texts in the DHT and gets them back: one that is known by its hash, and one that its owner
/// changes (BEP 44).
///
///     swift run ItemExample FOLDER-OF-CERTIFICATES GRAPE
@main
struct ItemExample {
  static func main() async throws {
    let arguments = CommandLine.arguments
    guard arguments.count == 3, let grape = Endpoint(arguments[2]) else {
      print("usage: ItemExample FOLDER HOST:PORT")
      return
    }
    let tls = TLSConfiguration.directory(arguments[1])
    let link = try await Link(LinkConfiguration(grapes: [grape], tls: tls))

    // Whoever has the hash gets the text, or nothing: nobody can put another one there.
    let hash = try await link.put("hello world")
    print("\(hash): \(try await link.get(hash)?.value ?? "gone")")

    // Whoever has the public key and the salt finds what its owner has stored last. A key that is to
    // outlive the process is kept in a file: ItemKeyPair(file:), write(to:).
    let key = try ItemKeyPair()
    let place = try await link.put("4 °C", signedBy: key, salt: "cellar", sequence: 1)
    try await link.put("5 °C", signedBy: key, salt: "cellar", sequence: 2, compareAndSwap: 1)
    if let item = try await link.get(place, salt: "cellar"), let signature = item.signature {
      print("number \(signature.sequence): \(item.value)")
    }

    // Two writers do not overwrite each other: the second has to look first.
    do {
      try await link.put("6 °C", signedBy: key, salt: "cellar", sequence: 3, compareAndSwap: 1)
    } catch {
      print(error.code)
    }
    await link.close()
  }
}

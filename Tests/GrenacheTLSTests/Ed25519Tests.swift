import GrenacheTLS
import TestSupport
import Testing

@Suite("RFC 8032 Ed25519 by expanded keys")
struct Ed25519Tests {
  private func bytes(_ hex: String) throws -> [UInt8] {
    try #require(Digest.bytes(hex: hex, count: hex.utf8.count / 2))
  }

  @Test(
    "§7.1: the seed, expanded, has the public key and gives the signature of the table",
    arguments: [
      (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9"
          + "b46bd25bf5f0595bbe24655141438e7a100b"
      ),
      (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f1"
          + "1d8c387b2eaeb4302aeeb00d291612bb0c00"
      ),
    ])
  func vectors(_ seed: String, _ publicKey: String, _ message: String, _ signature: String) throws {
    let key = try #require(Ed25519.expandedKey(seed: try bytes(seed)))
    #expect(Ed25519.publicKey(expandedKey: key) == (try bytes(publicKey)))
    #expect(Ed25519.sign(try bytes(message), expandedKey: key) == (try bytes(signature)))
  }

  @Test(
    "BEP 44: its key is an expanded one",
    arguments: [
      (
        "3:seqi1e1:v12:Hello World!",
        "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff"
          + "1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01"
      ),
      (
        "4:salt6:foobar3:seqi1e1:v12:Hello World!",
        "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d"
          + "df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08"
      ),
    ])
  func itemVectors(_ message: String, _ signature: String) throws {
    let key = try bytes(
      "e06d3183d14159228433ed599221b80bd0a5ce8352e4bdf0262f76786ef1c74d"
        + "b7e7a9fea2c0eb269d61e3b38e450a22e754941ac78479d6c54e1faf6037881d")
    #expect(
      Ed25519.publicKey(expandedKey: key)
        == (try bytes("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548")))
    #expect(
      Ed25519.sign(Array(message.utf8), expandedKey: key) == (try bytes(signature)))
  }

  @Test(
    "signatures are those of OpenSSL by the seed, and count", arguments: 0..<20 as Range<UInt64>)
  func same(_ number: UInt64) throws {
    var generator = SeededGenerator(seed: number)
    let seed = (0..<32).map { _ in UInt8.random(in: 0...255, using: &generator) }
    let message = (0..<Int.random(in: 0...1_000, using: &generator)).map { _ in
      UInt8.random(in: 0...255, using: &generator)
    }
    let key = try #require(Ed25519.expandedKey(seed: seed))
    let publicKey = try #require(Ed25519.publicKey(expandedKey: key))
    let signature = try #require(Ed25519.sign(message, expandedKey: key))
    #expect(publicKey == Ed25519.publicKey(seed: seed))
    #expect(signature == Ed25519.sign(message, seed: seed))
    #expect(Ed25519.isSignature(signature, of: message, by: publicKey))
    #expect(!Ed25519.isSignature(signature, of: message + [0], by: publicKey))
  }

  @Test("keys of another size, and one whose scalar is zero, sign nothing")
  func noKeys() {
    for size in [0, 32, 63, 65] {
      let key = [UInt8](repeating: 1, count: size)
      #expect(Ed25519.publicKey(expandedKey: key) == nil)
      #expect(Ed25519.sign([], expandedKey: key) == nil)
    }
    let zero = [UInt8](repeating: 0, count: 64)
    #expect(Ed25519.publicKey(expandedKey: zero) == nil)
    #expect(Ed25519.sign([1], expandedKey: zero) == nil)
    #expect(Ed25519.expandedKey(seed: zero) == nil)
  }
}

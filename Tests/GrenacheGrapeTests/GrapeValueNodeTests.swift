import Foundation
import GrenacheAccess
import GrenacheDHT
import GrenacheFraming
import GrenacheGrape
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import TestSupport
import Testing

@Suite("A grape's values, over real sockets", .timeLimit(.minutes(2)))
struct GrapeValueNodeTests {
  let authority: TestAuthority
  /// BEP 44's table: the key signs "Hello World!" with sequence number 1, without and with a salt.
  private static let k = "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548"
  private static let sig =
    "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff"
    + "1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01"
  private static let saltedSig =
    "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d"
    + "df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08"

  init() throws { authority = try TestAuthority() }

  @Test("an immutable value: put at one grape, got at both; a miss is empty")
  func immutable() async throws {
    let (host, client) = (try authority.host(), try authority.client())
    let target = "6d33adc2b6b2c14c3036feefb7fedbca1a880527"
    try await withGrape(tls: host) { first in
      try await withGrape(tls: host, bootstrap: [Endpoint(first.dht)]) { second in
        try await waitUntilReady(second, as: client)
        let put = try await post("{\"data\":\"hello world\"}", "/put", to: second.api, as: client)
        #expect(put.status == 200 && put.body == "\"\(target)\"")
        let own = try await post("{\"data\":\"\(target)\"}", "/get", to: second.api, as: client)
        #expect(own.body.hasSuffix("\",\"token\":null,\"v\":\"hello world\"}"), "\(own.body)")
        let other = try await post(
          "{\"data\":{\"hash\":\"\(target.uppercased())\",\"cache\":false}}", "/get",
          to: second.api, as: client)
        #expect(other.body.hasPrefix("{\"id\":\"") && !other.body.contains("null"), "\(other.body)")
        #expect(other.body.hasSuffix("\",\"v\":\"hello world\"}"), "\(other.body)")
        let miss = try await post(
          "{\"data\":\"\(String(repeating: "0", count: 40))\"}", "/get", to: first.api, as: client)
        #expect(miss.status == 200 && miss.body.isEmpty)
        #expect(miss.fields.contains("Content-Length"))
      }
    }
  }

  @Test("mutable values with the signatures of BEP 44; 302 and 301; a forged one is nobody's")
  func mutable() async throws {
    let (host, client) = (try authority.host(), try authority.client())
    @Sendable func body(_ seq: Int, sig: String, more: String = "") -> String {
      "{\"data\":{\"v\":\"Hello World!\",\"k\":\"\(Self.k)\",\"sig\":\"\(sig)\",\"seq\":\(seq)\(more)}}"
    }
    try await withGrape(tls: host) { first in
      try await withGrape(tls: host, bootstrap: [Endpoint(first.dht)]) { second in
        try await waitUntilReady(second, as: client)
        let put = try await post(body(1, sig: Self.sig), "/put", to: second.api, as: client)
        #expect(put.body == "\"4a533d47ec9c7d95b1ad75f576cffc641853b750\"")
        let salted = try await post(
          body(1, sig: Self.saltedSig, more: ",\"salt\":\"foobar\""), "/put", to: first.api,
          as: client)
        #expect(salted.body == "\"411eba73b6f087ca51a3795d9c8c938d365e32c1\"")
        for grape in [first, second] {
          let got = try await post(
            "{\"data\":\"4a533d47ec9c7d95b1ad75f576cffc641853b750\"}", "/get", to: grape.api,
            as: client)
          #expect(
            got.body.contains("\"v\":\"Hello World!\"") && got.body.contains("\"seq\":1")
              && got.body.contains("\"sig\":\"\(Self.sig)\""))
        }
        let again = try await post(body(1, sig: Self.sig), "/put", to: second.api, as: client)
        #expect(again.status == 302)
        #expect(again.body == "\"302 sequence number less than current\"")
        let swap = try await post(
          body(1, sig: Self.sig, more: ",\"cas\":9"), "/put", to: second.api, as: client)
        #expect(swap.status == 301)
        #expect(swap.body == "\"301 CAS mismatch, re-read and try again\"")
        let forged = try await post(body(2, sig: Self.sig), "/put", to: second.api, as: client)
        #expect(forged.status == 200 && forged.body == "\"All queries failed\"")
      }
    }
  }

  @Test("P26 who may put and get is a matter of the policy")
  func policy() async throws {
    let client = try authority.client()
    let target = "6d33adc2b6b2c14c3036feefb7fedbca1a880527"
    let access = AccessControl(
      AccessPolicy([
        .init("some", allow: [.put], on: .patterns(["6d33*"]), to: [.dns("client.test")])
      ]))
    try await withGrape(tls: try authority.host(), configure: { $0.access = access }) { grape in
      let put = try await post("{\"data\":\"hello world\"}", "/put", to: grape.api, as: client)
      #expect(put.status == 200 && put.body == "\"No nodes to query\"")
      let other = try await post("{\"data\":\"other\"}", "/put", to: grape.api, as: client)
      #expect(other.status == 403 && other.body == "ERR_GRAPE_NOT_PERMITTED")
      let get = try await post("{\"data\":\"\(target)\"}", "/get", to: grape.api, as: client)
      #expect(get.status == 403)
      access.policy = .byCertificate
      let got = try await post("{\"data\":\"\(target)\"}", "/get", to: grape.api, as: client)
      #expect(got.body.contains("hello world"))
    }
  }
}

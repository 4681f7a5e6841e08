// An OpenID Provider in push mode on an ephemeral loopback port, for the interop tests.
//
// All protocol messages, and the hashes in ID Tokens, are made and read by the Nimbus OAuth 2.0 / OpenID
// Connect SDK. Writes one line of JSON, {"issuer": "http://127.0.0.1:PORT"}, to standard output when it is
// ready, and ends when standard input is closed. Callbacks go to NOTIFICATION_ENDPOINT of the environment,
// whose certificate the authority in the file NOTIFICATION_AUTHORITY has issued. The clients rs256 and es256
// are named for the algorithm of their ID Tokens. The users are scripted by name:
//
//   alice  approves after a moment
//   anna   as alice, and there is a refresh token
//   bob    denies after a moment
//   early  approves before the authentication request is answered
//   late   the transaction fails: it expired at the provider
//
// Every other name is unknown to it.

import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.JWSHeader;
import com.nimbusds.jose.JWSSigner;
import com.nimbusds.jose.crypto.factories.DefaultJWSSignerFactory;
import com.nimbusds.jose.jwk.Curve;
import com.nimbusds.jose.jwk.JWK;
import com.nimbusds.jose.jwk.JWKSet;
import com.nimbusds.jose.jwk.KeyUse;
import com.nimbusds.jose.jwk.gen.ECKeyGenerator;
import com.nimbusds.jose.jwk.gen.RSAKeyGenerator;
import com.nimbusds.jwt.SignedJWT;
import com.nimbusds.oauth2.sdk.ErrorObject;
import com.nimbusds.oauth2.sdk.GrantType;
import com.nimbusds.oauth2.sdk.OAuth2Error;
import com.nimbusds.oauth2.sdk.auth.ClientAuthenticationMethod;
import com.nimbusds.oauth2.sdk.auth.ClientSecretBasic;
import com.nimbusds.oauth2.sdk.ciba.AuthRequestID;
import com.nimbusds.oauth2.sdk.ciba.BackChannelTokenDeliveryMode;
import com.nimbusds.oauth2.sdk.ciba.CIBAError;
import com.nimbusds.oauth2.sdk.ciba.CIBAErrorDelivery;
import com.nimbusds.oauth2.sdk.ciba.CIBAErrorResponse;
import com.nimbusds.oauth2.sdk.ciba.CIBAPushCallback;
import com.nimbusds.oauth2.sdk.ciba.CIBARequest;
import com.nimbusds.oauth2.sdk.ciba.CIBARequestAcknowledgement;
import com.nimbusds.oauth2.sdk.ciba.CIBATokenDelivery;
import com.nimbusds.oauth2.sdk.http.HTTPRequest;
import com.nimbusds.oauth2.sdk.http.HTTPResponse;
import com.nimbusds.oauth2.sdk.id.Audience;
import com.nimbusds.oauth2.sdk.id.Issuer;
import com.nimbusds.oauth2.sdk.id.Subject;
import com.nimbusds.oauth2.sdk.token.AccessToken;
import com.nimbusds.oauth2.sdk.token.BearerAccessToken;
import com.nimbusds.oauth2.sdk.token.RefreshToken;
import com.nimbusds.openid.connect.sdk.SubjectType;
import com.nimbusds.openid.connect.sdk.claims.AccessTokenHash;
import com.nimbusds.openid.connect.sdk.claims.IDTokenClaimsSet;
import com.nimbusds.openid.connect.sdk.op.OIDCProviderMetadata;
import com.nimbusds.openid.connect.sdk.token.OIDCTokens;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import com.sun.net.httpserver.HttpServer;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Date;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class PushProvider {
  static final String SECRET = "nimbus-4mWq2VtY8sLx0ZkBhRj6NcPd7GfTaUe3";
  static final Set<String> USERS = Set.of("alice", "anna", "bob", "early", "late");
  static final URI CALLBACK = URI.create(System.getenv("NOTIFICATION_ENDPOINT"));
  static final ScheduledExecutorService LATER = Executors.newScheduledThreadPool(2);

  static Issuer issuer;
  static Map<String, JWK> keys; // of the clients' ID Tokens

  public static void main(String[] arguments) throws Exception {
    trust(Path.of(System.getenv("NOTIFICATION_AUTHORITY")));
    JWK rsa = new RSAKeyGenerator(2048).keyID("r").keyUse(KeyUse.SIGNATURE).algorithm(JWSAlgorithm.RS256).generate();
    JWK ec = new ECKeyGenerator(Curve.P_256).keyID("e").keyUse(KeyUse.SIGNATURE).algorithm(JWSAlgorithm.ES256).generate();
    keys = Map.of("rs256", rsa, "es256", ec);

    HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getByName("127.0.0.1"), 0), 0);
    issuer = new Issuer("http://127.0.0.1:" + server.getAddress().getPort());
    serve(server, "/.well-known/openid-configuration", (request) -> json(metadata().toJSONObject().toString()));
    serve(server, "/jwks", (request) -> json(new JWKSet(List.of(rsa, ec)).toString()));
    serve(server, "/backchannel", PushProvider::authenticate);
    server.setExecutor(Executors.newCachedThreadPool());
    server.start();
    System.out.println("{\"issuer\": \"" + issuer + "\"}");
    while (System.in.read() >= 0) {
    }
    System.exit(0);
  }

  static OIDCProviderMetadata metadata() {
    OIDCProviderMetadata metadata =
        new OIDCProviderMetadata(issuer, List.of(SubjectType.PUBLIC), URI.create(issuer + "/jwks"));
    metadata.setTokenEndpointURI(URI.create(issuer + "/token"));
    metadata.setTokenEndpointAuthMethods(List.of(ClientAuthenticationMethod.CLIENT_SECRET_BASIC));
    metadata.setBackChannelAuthenticationEndpointURI(URI.create(issuer + "/backchannel"));
    metadata.setBackChannelTokenDeliveryModes(List.of(BackChannelTokenDeliveryMode.PUSH));
    metadata.setGrantTypes(List.of(GrantType.CIBA));
    metadata.setIDTokenJWSAlgs(List.of(JWSAlgorithm.RS256, JWSAlgorithm.ES256));
    metadata.applyDefaults();
    return metadata;
  }

  static HTTPResponse authenticate(HTTPRequest received) throws Exception {
    ClientSecretBasic client = ClientSecretBasic.parse(received);
    if (!SECRET.equals(client.getClientSecret().getValue()) || !keys.containsKey(client.getClientID().getValue())) {
      return new CIBAErrorResponse(OAuth2Error.INVALID_CLIENT).toHTTPResponse();
    }
    CIBARequest request = CIBARequest.parse(received);
    if (!USERS.contains(request.getLoginHint())) {
      return new CIBAErrorResponse(CIBAError.UNKNOWN_USER_ID).toHTTPResponse();
    }
    AuthRequestID id = new AuthRequestID();
    CIBAPushCallback callback = callback(request, client.getClientID().getValue(), id);
    boolean early = request.getLoginHint().equals("early");
    LATER.schedule(() -> send(callback), early ? 0 : 300, TimeUnit.MILLISECONDS);
    if (early) {
      Thread.sleep(300);
    }
    return new CIBARequestAcknowledgement(id, 60, null).toHTTPResponse();
  }

  static CIBAPushCallback callback(CIBARequest request, String client, AuthRequestID id) throws Exception {
    BearerAccessToken bearer = request.getClientNotificationToken();
    switch (request.getLoginHint()) {
      case "bob":
        return new CIBAErrorDelivery(CALLBACK, bearer, id, OAuth2Error.ACCESS_DENIED);
      case "late":
        return new CIBAErrorDelivery(CALLBACK, bearer, id, new ErrorObject("expired_token"));
      case "anna":
        return new CIBATokenDelivery(CALLBACK, bearer, id, tokens(request, client, id, new RefreshToken()));
      default:
        return new CIBATokenDelivery(CALLBACK, bearer, id, tokens(request, client, id, null));
    }
  }

  static OIDCTokens tokens(CIBARequest request, String client, AuthRequestID id, RefreshToken refresh)
      throws Exception {
    JWK key = keys.get(client);
    JWSAlgorithm alg = (JWSAlgorithm) key.getAlgorithm();
    BearerAccessToken access = new BearerAccessToken(32, 300, request.getScope());
    Date now = new Date();
    IDTokenClaimsSet claims =
        new IDTokenClaimsSet(
            issuer,
            new Subject(request.getLoginHint()),
            new Audience(client).toSingleAudienceList(),
            new Date(now.getTime() + 300_000),
            now);
    claims.setAccessTokenHash(AccessTokenHash.compute(access, alg, null));
    claims.setClaim("urn:openid:params:jwt:claim:auth_req_id", id.getValue());
    if (refresh != null) {
      AccessToken hashed = new BearerAccessToken(refresh.getValue());
      claims.setClaim("urn:openid:params:jwt:claim:rt_hash", AccessTokenHash.compute(hashed, alg, null).getValue());
    }
    JWSHeader header = new JWSHeader.Builder(alg).keyID(key.getKeyID()).build();
    SignedJWT token = new SignedJWT(header, claims.toJWTClaimsSet());
    JWSSigner signer = new DefaultJWSSignerFactory().createJWSSigner(key);
    token.sign(signer);
    return new OIDCTokens(token, access, refresh);
  }

  static void send(CIBAPushCallback callback) {
    try {
      int status = callback.toHTTPRequest().send().getStatusCode();
      System.err.println("the client answered " + status);
    } catch (Exception error) {
      error.printStackTrace();
    }
  }

  interface Answer {
    HTTPResponse to(HTTPRequest request) throws Exception;
  }

  static void serve(HttpServer server, String path, Answer answer) {
    HttpHandler handler =
        (HttpExchange exchange) -> {
          try (exchange) {
            HTTPRequest.Method method = HTTPRequest.Method.valueOf(exchange.getRequestMethod());
            HTTPRequest request = new HTTPRequest(method, URI.create(issuer + path));
            exchange.getRequestHeaders().forEach((name, values) -> request.setHeader(name, values.toArray(new String[0])));
            request.setBody(new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8));
            HTTPResponse response = answer.to(request);
            response.getHeaderMap().forEach((name, values) -> exchange.getResponseHeaders().put(name, values));
            byte[] body = response.getBody().getBytes(StandardCharsets.UTF_8);
            exchange.sendResponseHeaders(response.getStatusCode(), body.length);
            exchange.getResponseBody().write(body);
          } catch (IOException error) {
            throw error;
          } catch (Exception error) {
            throw new IOException(error);
          }
        };
    server.createContext(path, handler);
  }

  static HTTPResponse json(String body) {
    HTTPResponse response = new HTTPResponse(200);
    response.setHeader("Content-Type", "application/json");
    response.setBody(body);
    return response;
  }

  static void trust(Path authority) throws Exception {
    KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
    store.load(null);
    store.setCertificateEntry(
        "authority",
        CertificateFactory.getInstance("X.509")
            .generateCertificate(new ByteArrayInputStream(Files.readAllBytes(authority))));
    TrustManagerFactory managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    managers.init(store);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(null, managers.getTrustManagers(), null);
    HTTPRequest.setDefaultSSLSocketFactory(context.getSocketFactory());
  }
}
